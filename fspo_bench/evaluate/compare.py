"""Two finished runs set against each other on the same users and questions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from fspo_bench.errors import UserError
from fspo_bench.evaluate.length_control import CONTROLS, Controlled, Judgements, length_controlled
from fspo_bench.evaluate.metrics import GAIN, REFERENCE, Answered
from fspo_bench.evaluate.paired import detectable, holm, rank_ranges, sign_flip_p
from fspo_bench.evaluate.results import Metric, Record, read_record
from fspo_bench.evaluate.scoring import RESULT, read_outputs
from fspo_bench.evaluate.stats import ByUser, Estimate, clustered_mean

Place = tuple[str, int, str]  # user, round, question


@dataclass(frozen=True)
class Finished:
    """A run's record and how each of its answers fared against the reference's."""

    record: Record
    wins: dict[Place, float | None]
    """1, 0, a half where orders disagree; None without a verdict."""
    lengths: dict[Place, tuple[float, float]] = field(default_factory=dict)
    """Characters of the answer and of the reference's."""

    @classmethod
    def of(cls, record: Record, answered: Sequence[Answered]) -> Finished:
        """What is compared of a run."""
        places = {(a.user_id, a.round, a.question_id): a for a in answered}
        return cls(
            record,
            {place: a.win(REFERENCE) for place, a in places.items()},
            {place: (len(a.output), len(a.reference)) for place, a in places.items()},
        )


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
    return Finished.of(record, answered)


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


def _paired(a: Finished, b: Finished) -> dict[Place, float]:
    """Win by win, `a` less `b`, where both have a verdict.

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
    known = {place: x - y for place, x, y in both if x is not None and y is not None}
    if not known:
        raise UserError(f"runs {a.record.id} and {b.record.id} have no verdict in common")
    return known


def mean_of(known: Mapping[Place, float], bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """The mean over places, clustered by user."""
    users, _, questions = zip(*known, strict=True)
    return clustered_mean(list(known.values()), users, questions, bounds)


def difference(a: Finished, b: Finished) -> Estimate:
    """Win rate of `a` less that of `b` in points, paired by user and question, clustered by user."""
    return mean_of(_paired(a, b), GAIN)


def comparison(first: Finished, others: Sequence[Finished]) -> Comparison:
    """The first run against each of the others, and where all of them stand."""
    runs = [first, *others]
    paired = [_paired(a, b) for a, b in itertools.combinations(runs, 2)]  # the first run's pairs come first
    by_user = [ByUser.of(list(known.values()), [user for user, *_ in known]) for known in paired]
    p_values = [sign_flip_p(sums) for sums in by_user]
    differences = [
        Difference(
            runs=f"{first.record.label} - {other.record.label}",
            difference=Metric.of(mean_of(known, GAIN)),
            p=round(p, 5),
            p_holm=round(adjusted, 5),
            detectable=None if len(sums.sums) < 2 else round(100 * detectable(sums), 2),
        )
        for other, known, sums, p, adjusted in zip(
            others, paired, by_user, p_values, holm(p_values[: len(others)]), strict=False
        )
    ]
    controlled = length_controlled(_judgements(runs))
    return Comparison(
        standings=_standings(runs, p_values, controlled),
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
    for name, run in zip(_names(runs), runs, strict=True) if places else ():
        lengths, reference = np.array([run.lengths[p] for p in places], dtype=float).T
        wins = np.array([run.wins[p] for p in places], dtype=float)
        found[name] = Judgements(wins, lengths, reference, questions, users)
    return found


def _names(runs: Sequence[Finished]) -> list[str]:
    """Each run's own, as two of one label may differ in seed or preset; a control's is its method's."""
    return [r.record.method if r.record.method in CONTROLS else f"run {n}" for n, r in enumerate(runs)]


def _standings(runs: Sequence[Finished], p_values: Sequence[float], controlled: Controlled) -> list[Standing]:
    """Where runs stand, by the p of each pair of them, in the order of `itertools.combinations`."""
    adjusted = np.ones((len(runs), len(runs)))
    for (i, j), p in zip(itertools.combinations(range(len(runs)), 2), holm(p_values), strict=True):
        adjusted[i, j] = adjusted[j, i] = p
    rates = [mean_of({place: w for place, w in sorted(r.wins.items()) if w is not None}) for r in runs]
    ranks = rank_ranges(adjusted, [rate.value for rate in rates])
    return [
        Standing(
            run=run.record.label,
            win_rate=Metric.of(rate),
            ranks=range_,
            length_controlled=controlled.rates.get(name),
        )
        for name, run, rate, range_ in zip(_names(runs), runs, rates, ranks, strict=True)
    ]
