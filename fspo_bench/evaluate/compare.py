"""Two finished runs set against each other on the same users and questions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from fspo_bench.errors import UserError
from fspo_bench.evaluate.length_control import CONTROLS, Controlled, Judgements, length_controlled
from fspo_bench.evaluate.metrics import GAIN, REFERENCE
from fspo_bench.evaluate.paired import ByUser, detectable, holm, rank_ranges, sign_flip_p
from fspo_bench.evaluate.results import Metric, Record, read_record
from fspo_bench.evaluate.scoring import RESULT, read_outputs
from fspo_bench.evaluate.stats import Estimate, clustered_mean

Place = tuple[str, int, str]  # user, round, question


@dataclass(frozen=True)
class Finished:
    """A run's record and how each of its answers fared against the reference's."""

    record: Record
    wins: dict[Place, float | None]
    """1, 0, a half where orders disagree; None without a verdict."""
    lengths: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """Characters of the answer and of the reference's."""


def read_run(name: str, runs: Path) -> Finished:
    """A run by its folder, or by its id under the folder of runs.

    Raises:
        UserError: no such run, an unfinished one, or one that nobody judged.
    """
    folder = run_folder(name, runs)
    record, answered = read_record(folder / RESULT), read_outputs(folder)
    if not all(REFERENCE in a.verdicts for a in answered):
        raise UserError(
            f"run '{folder}' holds no verdicts; give it a judge with `fspo-bench score {folder} --judge J`"
        )
    places = {(a.user_id, a.round, a.question_id): a for a in answered}
    return Finished(
        record,
        {place: a.win(REFERENCE) for place, a in places.items()},
        {place: (len(a.output), len(a.reference)) for place, a in places.items()},
    )


def run_folder(name: str, runs: Path) -> Path:
    """The folder of a finished run.

    Raises:
        UserError: no such run, several, or an unfinished one.
    """
    folders = [Path(name)] if Path(name).is_dir() else sorted(runs.glob(f"*/*/{name}*"))
    if len(folders) != 1:
        found = f"{len(folders)} runs begin so" if folders else "no such run"
        raise UserError(f"run '{name}': {found} in '{runs}'; give the folder that `run` printed, or its id")
    (folder,) = folders
    if not (folder / RESULT).is_file():
        raise UserError(f"run '{folder}' is not finished (no {RESULT}); give its command again to finish it")
    return folder


class Difference(BaseModel):
    """One run less another, in points of win rate, paired by user and question."""

    model_config = ConfigDict(extra="forbid")

    runs: str
    difference: Metric
    p: float
    """Of no difference, by flipping the signs of users' differences."""
    p_holm: float
    """The same, adjusted for all differences in the table (Holm)."""
    detectable: float | None
    """True difference in points that as many users find four times in five; null for one user."""


class Standing(BaseModel):
    """A run among the others."""

    model_config = ConfigDict(extra="forbid")

    run: str
    win_rate: Metric
    ranks: tuple[int, int]
    """Best and worst: past it stand those that are told from it, adjusted for all pairs."""
    length_controlled: tuple[float, float, float] | None
    """Win rate at equal length with its 95% interval (bootstrap over users)."""


class Comparison(BaseModel):
    """What the table of `compare` says."""

    model_config = ConfigDict(extra="forbid")

    standings: list[Standing]
    no_length_control: str
    """Why there are no rates at equal length; empty where there are."""
    differences: list[Difference]


@dataclass(frozen=True)
class _Paired:
    """Differences of wins on what both runs have a verdict for."""

    values: list[float]
    users: list[str]
    questions: list[str]

    @property
    def estimate(self) -> Estimate:
        return clustered_mean(self.values, self.users, self.questions, GAIN)

    @property
    def by_user(self) -> ByUser:
        return ByUser.of(self.values, self.users)


def _paired(a: Finished, b: Finished) -> _Paired:
    """Win by win, `a` less `b`.

    Raises:
        UserError: runs of other tasks, judges, models or test budgets.
    """
    for part in ("task", "judge", "model"):
        if a.record.spec[part] != b.record.spec[part]:
            raise UserError(
                f"runs {a.record.id} and {b.record.id} differ in {part}; compare runs of one {part}"
            )
    if a.wins.keys() != b.wins.keys():
        raise UserError(
            f"runs {a.record.id} and {b.record.id} asked other users or questions; run both with the same "
            "test_users, test_questions and --limit"
        )
    both = [(place, a.wins[place], b.wins[place]) for place in sorted(a.wins)]
    known = [(place, x - y) for place, x, y in both if x is not None and y is not None]
    if not known:
        raise UserError(f"runs {a.record.id} and {b.record.id} have no verdict in common")
    return _Paired(
        [d for _, d in known], [user for (user, *_), _ in known], [question for (*_, question), _ in known]
    )


def difference(a: Finished, b: Finished) -> Estimate:
    """Win rate of `a` less that of `b` in points, paired by user and question, clustered by user."""
    return _paired(a, b).estimate


def comparison(first: Finished, others: Sequence[Finished]) -> Comparison:
    """The first run against each of the others, and where all of them stand."""
    paired = [_paired(first, other) for other in others]
    p_values = [sign_flip_p(p.by_user) for p in paired]
    differences = [
        Difference(
            runs=f"{first.record.label} - {other.record.label}",
            difference=Metric.of(p.estimate),
            p=round(one, 5),
            p_holm=round(adjusted, 5),
            detectable=None if len(p.by_user.sums) < 2 else round(100 * detectable(p.by_user), 2),
        )
        for other, p, one, adjusted in zip(others, paired, p_values, holm(p_values), strict=True)
    ]
    controlled = length_controlled(_judgements([first, *others]))
    return Comparison(
        standings=_standings([first, *others], controlled),
        no_length_control=controlled.reason,
        differences=differences,
    )


def _judgements(runs: Sequence[Finished]) -> dict[str, Judgements]:
    """What the length control reads of each run; only places where all of them have a verdict."""
    places = [
        p for p in sorted(runs[0].wins) if all(r.wins.get(p) is not None and p in r.lengths for r in runs)
    ]
    _, questions = np.unique([question for *_, question in places], return_inverse=True)
    _, users = np.unique([user for user, *_ in places], return_inverse=True)
    found = {}
    for run in runs if places else ():
        lengths, reference = np.array([run.lengths[p] for p in places], dtype=float).T
        wins = np.array([run.wins[p] for p in places], dtype=float)
        found[_name(run)] = Judgements(wins, lengths, reference, questions, users)
    return found


def _name(run: Finished) -> str:
    """A control by its method's name, so that the length control knows it."""
    return run.record.method if run.record.method in CONTROLS else run.record.label


def _standings(runs: Sequence[Finished], controlled: Controlled) -> list[Standing]:
    pairs = list(itertools.combinations(range(len(runs)), 2))
    adjusted = np.ones((len(runs), len(runs)))
    for (i, j), p in zip(
        pairs, holm([sign_flip_p(_paired(runs[i], runs[j]).by_user) for i, j in pairs]), strict=True
    ):
        adjusted[i, j] = adjusted[j, i] = p
    rates = [_win_rate(run) for run in runs]
    ranks = rank_ranges(adjusted, [rate.value for rate in rates])
    return [
        Standing(
            run=run.record.label,
            win_rate=Metric.of(rate),
            ranks=range_,
            length_controlled=controlled.rates.get(_name(run)),
        )
        for run, rate, range_ in zip(runs, rates, ranks, strict=True)
    ]


def _win_rate(run: Finished) -> Estimate:
    known = [(place, w) for place, w in sorted(run.wins.items()) if w is not None]
    users, questions = [user for (user, *_), _ in known], [question for (*_, question), _ in known]
    return clustered_mean([w for _, w in known], users, questions)
