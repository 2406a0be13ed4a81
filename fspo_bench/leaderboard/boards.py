"""From entries to leaderboards: runs that may be set against each other, and where they stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fspo_bench.evaluate.compare import Comparison, Finished, comparison, mean_of
from fspo_bench.evaluate.metrics import GAIN, OWN, REFERENCE, WRONG_USER, Answered
from fspo_bench.evaluate.results import JudgeRecord, Metric
from fspo_bench.evaluate.stats import Estimate
from fspo_bench.leaderboard.claims import pooled
from fspo_bench.leaderboard.records import Submitted
from fspo_bench.presets import PRESETS
from fspo_bench.settings import labelled
from fspo_bench.store import digest

Value = Callable[[Answered], float | None]


@dataclass(frozen=True)
class Line:
    """One method under one budget: the runs of its seeds, pooled answer by answer."""

    label: str
    runs: Sequence[Submitted]
    win_rate: Metric
    length_controlled: tuple[float, float, float] | None
    ranks: tuple[int, int]
    personal_gain: Metric | None
    own_vs_wrong_user: Metric | None
    preference_accuracy: Metric
    """Over seeds the mean of the values and of their intervals' ends: the pairs' ranks are not kept."""
    length_ratio: float
    copy_rate: float

    @property
    def seeds(self) -> list[int]:
        return [r.record.seed for r in self.runs]

    @property
    def verified(self) -> bool:
        return all(r.entry.verified for r in self.runs)


@dataclass(frozen=True)
class Board:
    """Lines on the same users, questions, model, judge and reference answers, best first."""

    task: str
    model: str
    preset: str
    budget: dict[str, Any]
    """What all of them change in the preset."""
    judge: JudgeRecord
    lines: Sequence[Line]
    no_length_control: str
    key: str
    """Of all that its lines have in common; boards of one title differ in it."""

    @property
    def slug(self) -> str:
        """Names its files."""
        model = self.model.replace("/", "-")
        judge = "" if self.judge.name == "offline" else f"-{self.judge.name}"
        return f"{self.task}-{model}-{self.preset}{judge}-{self.key}"

    @property
    def title(self) -> str:
        return f"{self.task}, {self.model}, preset {labelled(self.preset, self.budget)}"


def boards(entries: Sequence[Submitted]) -> list[Board]:
    """Every leaderboard, by task, model and preset."""
    groups: dict[tuple[Any, ...], list[Submitted]] = defaultdict(list)
    for entry in entries:
        groups[_group(entry)].append(entry)
    return [_board(group) for _, group in sorted(groups.items(), key=lambda item: str(item[0]))]


def _group(entry: Submitted) -> tuple[Any, ...]:
    r, preset = entry.record, entry.record.spec["preset"]
    places = (preset["test_users"], preset["test_questions"])
    return r.task, r.model, r.preset, r.spec["task"]["hash"], r.spec["model"], r.spec["judge"], places


def _board(entries: Sequence[Submitted]) -> Board:
    changes = [_changes(e) for e in entries]
    common = {k: v for k, v in changes[0].items() if all(c.get(k) == v for c in changes)}
    by_label: dict[str, list[Submitted]] = defaultdict(list)
    for entry, changed in sorted(zip(entries, changes, strict=True), key=lambda e: e[0].record.seed):
        own = {k: v for k, v in changed.items() if k not in common}
        of_method = entry.record.spec["method"]["changed"]
        by_label[labelled(entry.record.method, {**of_method, **own})].append(entry)
    first_line, *others = [_together(runs) for runs in by_label.values()]
    found = comparison(first_line, others)
    lines = [_line(label, runs, found, place) for place, (label, runs) in enumerate(by_label.items())]
    first = entries[0].record
    assert first.judge  # `submit` lets no other in
    return Board(
        first.task, first.model, first.preset, common, first.judge,
        sorted(lines, key=lambda line: (-line.win_rate.value, line.label)), found.no_length_control,
        digest([str(part) for part in _group(entries[0])])[:6],
    )  # fmt: skip


def _changes(entry: Submitted) -> dict[str, Any]:
    """What a run changes in its preset; the model stands apart."""
    default = vars(PRESETS[entry.record.preset])
    given = entry.record.spec["preset"]
    return {k: v for k, v in given.items() if k not in ("name", "model") and v != default.get(k)}


def _together(runs: Sequence[Submitted]) -> Finished:
    """The runs of several seeds as one."""
    finished = [r.finished for r in runs]
    lengths = {
        place: (float(np.mean([f.lengths[place][0] for f in finished])), reference)
        for place, (_, reference) in finished[0].lengths.items()
    }
    return replace(finished[0], wins=dict(pooled(finished)), lengths=lengths)


def _line(label: str, runs: Sequence[Submitted], found: Comparison, place: int) -> Line:
    standing = found.standings[place]
    metrics = [r.record.metrics for r in runs]
    gain = _pooled(runs, lambda a: _less(a.win(REFERENCE), a.win(WRONG_USER)))
    own = _pooled(runs, lambda a: a.win(OWN))
    return Line(
        label=label,
        runs=runs,
        win_rate=standing.win_rate,
        length_controlled=standing.length_controlled,
        ranks=standing.ranks,
        personal_gain=Metric.of(mean_of(gain, GAIN)) if gain else None,
        own_vs_wrong_user=Metric.of(mean_of(own)) if own else None,
        preference_accuracy=_averaged([m.preference_accuracy for m in metrics if m.preference_accuracy]),
        length_ratio=float(np.mean([m.length_ratio for m in metrics])),
        copy_rate=float(np.mean([m.copy_rate for m in metrics])),
    )


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _pooled(runs: Sequence[Submitted], value: Value) -> dict[tuple[str, int, str], float]:
    """A value of each answer, averaged over seeds."""
    return pooled([
        Finished(r.record, {(a.user_id, a.round, a.question_id): value(a) for a in r.answered}) for r in runs
    ])  # fmt: skip


def _averaged(metrics: Sequence[Metric]) -> Metric:
    ends = [m.ci95 for m in metrics if m.ci95]
    low, high = np.mean(ends, axis=0) if ends else (float("nan"), float("nan"))
    value, first = float(np.mean([m.value for m in metrics])), metrics[0]
    return Metric.of(
        Estimate(value, float(low), float(high), first.n_users, first.n_questions, sum(m.n for m in metrics))
    )
