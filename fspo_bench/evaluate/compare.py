"""Two finished runs set against each other on the same users and questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fspo_bench.errors import UserError
from fspo_bench.evaluate.metrics import GAIN, REFERENCE
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
    return Finished(record, {(a.user_id, a.round, a.question_id): a.win(REFERENCE) for a in answered})


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


def difference(a: Finished, b: Finished) -> Estimate:
    """Win rate of `a` less that of `b` in points, paired by user and question, clustered by user.

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
    users, questions = [user for (user, *_), _ in known], [question for (*_, question), _ in known]
    return clustered_mean([d for _, d in known], users, questions, GAIN)


def comparison(first: Finished, others: Sequence[Finished]) -> list[tuple[str, Metric]]:
    """The first run against each of the others: what was compared, and the difference."""
    return [
        (f"{first.record.label} - {other.record.label}", Metric.of(difference(first, other)))
        for other in others
    ]
