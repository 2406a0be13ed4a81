"""A finished run judged by another judge: nothing is trained or generated again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.evaluate.metrics import judged
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.evaluate.scoring import (
    RESULT,
    comparisons,
    judge_all,
    judge_record,
    notes,
    read_outputs,
    write_run,
)
from fspo_bench.judge.opening import AnyJudge, Chosen, card_of, forecast_of, open_judge
from fspo_bench.store import Store, canonical, digest, write_atomic


@dataclass(frozen=True)
class Rescored:
    """Where the new record lies, and what it says."""

    folder: Path
    record: Record


def rescore(folder: Path, task: Task, chosen: Chosen, store: Store, command: str) -> Rescored:
    """Judge a run's answers again, into the folder that `run --judge` would have made.

    Raises:
        UserError: the task's texts are no longer those of the run.
    """
    record = read_record(folder / RESULT)
    judge = _open(record, task, folder, chosen, store)
    spec = {**record.spec, "judge": judge.key}
    target = folder.parent / digest(spec)[:10]
    if (target / RESULT).is_file() and all(a.verdicts for a in read_outputs(target)):
        return Rescored(target, read_record(target / RESULT))
    card, answered = card_of(judge), read_outputs(folder)
    for a in answered:
        a.verdicts.clear()
    judge_all(judge, task, answered)
    metrics = judged(record.metrics, task, answered, card.errors)
    of_judge = judge_record(judge, card)
    told = [*notes(task, metrics, of_judge), *(n for n in record.notes if n.startswith("--limit"))]
    again = record.model_copy(
        update={
            "judge": of_judge, "metrics": metrics, "notes": told, "spec": spec, "id": target.name,
            "command": command,
        }
    )  # fmt: skip
    write_atomic(target / "spec.json", canonical(spec) + "\n")
    write_run(target, answered, again)
    return Rescored(target, again)


def forecast(folder: Path, task: Task, chosen: Chosen, store: Store) -> str:
    """What judging the run would take, in words."""
    judge = _open(read_record(folder / RESULT), task, folder, chosen, store)
    return forecast_of(judge, [c for *_, c in comparisons(task, read_outputs(folder))])


def _open(record: Record, task: Task, folder: Path, chosen: Chosen, store: Store) -> AnyJudge:
    """The judge at work on the task of a run."""
    if record.spec["task"]["hash"] != task.hash:
        raise UserError(
            f"run '{folder}' was made on other texts of task {task.name} than are here now; run it again"
        )
    return open_judge(chosen, task, store)
