"""Two finished runs set against each other on the same users and questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fspo_bench.errors import UserError
from fspo_bench.evaluate.metrics import GAIN, half
from fspo_bench.evaluate.results import Metric, Record, read_record
from fspo_bench.evaluate.stats import Estimate, clustered_mean

Place = tuple[str, int, str]  # user, round, question


@dataclass(frozen=True)
class Finished:
    """A run's record and P(its answer preferred to the reference's) for each question asked."""

    record: Record
    verdicts: dict[Place, float]


def read_run(name: str, runs: Path) -> Finished:
    """A run by its folder, or by its id under the folder of runs.

    Raises:
        UserError: no such run, an unfinished one, or one that nobody judged.
    """
    folders = [Path(name)] if Path(name).is_dir() else sorted(runs.glob(f"*/*/{name}*"))
    if len(folders) != 1:
        found = f"{len(folders)} runs begin so" if folders else "no such run"
        raise UserError(f"run '{name}': {found} in '{runs}'; give the folder that `run` printed, or its id")
    (folder,) = folders
    if not (folder / "result.json").is_file():
        raise UserError(
            f"run '{folder}' is not finished (no result.json); give its command again to finish it"
        )
    rows = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    if any(row["p"] is None for row in rows):
        raise UserError(f"run '{folder}' was not judged: its task has no offline judge")
    verdicts = {(row["user_id"], row["round"], row["question_id"]): row["p"] for row in rows}
    return Finished(read_record(folder / "result.json"), verdicts)


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
    if a.verdicts.keys() != b.verdicts.keys():
        raise UserError(
            f"runs {a.record.id} and {b.record.id} asked other users or questions; run both with the same "
            "test_users, test_questions and --limit"
        )
    places = sorted(a.verdicts)
    wins = [half(a.verdicts[p] - 0.5) - half(b.verdicts[p] - 0.5) for p in places]
    return clustered_mean(wins, [user for user, _, _ in places], [question for *_, question in places], GAIN)


def comparison(first: Finished, others: Sequence[Finished]) -> list[tuple[str, Metric]]:
    """The first run against each of the others: what was compared, and the difference."""
    return [
        (f"{first.record.label} - {other.record.label}", Metric.of(difference(first, other)))
        for other in others
    ]
