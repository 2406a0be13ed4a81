"""What a leaderboard is made of: runs whose verdicts were found again from their answers.

leaderboards/records/TASK/METHOD/ID.json        the record, how it was checked, and a digest over both files
leaderboards/records/TASK/METHOD/ID.jsonl.gz    its answers with their verdicts
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.evaluate.compare import Finished
from fspo_bench.evaluate.metrics import Answered, judged
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.evaluate.scoring import RESULT, judge_all, read_outputs
from fspo_bench.judge.opening import Chosen, card_of, key_of_judge, open_judge
from fspo_bench.judge.spec import OFFLINE
from fspo_bench.judge.verdicts import Verdict
from fspo_bench.store import Store, canonical, digest, write_atomic
from fspo_bench.validate import validate

FORMAT = "fspo-bench/entry/1"
TOLERANCE = 0.01  # of a probability that the judge gives again


class Entry(BaseModel):
    """A submitted run."""

    model_config = ConfigDict(extra="forbid")

    record: Record
    verified: bool
    """Whether the judge was asked again about every answer and said the same."""
    digest: str
    """Over the record, `verified` and the answers."""
    format: str = FORMAT


@dataclass(frozen=True)
class Submitted:
    """An entry with its answers."""

    file: Path
    entry: Entry
    answered: Sequence[Answered]

    @property
    def record(self) -> Record:
        return self.entry.record

    @property
    def finished(self) -> Finished:
        """As `compare` reads a run."""
        return Finished.of(self.record, self.answered)


def submit(folder: Path, task: Task, chosen: Chosen, root: Path, store: Store) -> Path:
    """Check a finished run, judge its answers again, and add it to the records.

    Raises:
        UserError: the run is partial, a mechanism check, of other texts, another judge or another version,
            started from foreign weights, or does not say what its answers say.
    """
    record, answered = read_record(folder / RESULT), read_outputs(folder)
    _refuse(folder, record, task, chosen, store)
    _refuse_leaks(folder, record, answered, task)
    verified = chosen.spec().model == OFFLINE
    _same_again(folder, record, answered, task, chosen, store)
    _same_reference(folder, record, answered, read_entries(root))
    file = root / record.task / record.method / f"{record.id}.json"
    _write(file, record, verified, answered)
    return file


def _refuse(folder: Path, record: Record, task: Task, chosen: Chosen, store: Store) -> None:
    from fspo_bench.run import VERSION  # brings torch, and only runs need it

    spec = record.spec
    if not record.complete:
        raise UserError(f"run '{folder}' is partial (--limit {spec['limit']}); run it without --limit")
    if spec["preset"].get("source") == "micro":
        raise UserError(
            f"run '{folder}' is a mechanism check on micro texts; leaderboards are for tasks' own texts"
        )
    if spec["init"] is not None:
        raise UserError(
            f"run '{folder}' started from weights whose training nobody can check (--init); run it without"
        )
    if record.metrics.preference_accuracy is None:
        raise UserError(
            f"run '{folder}' is of model {record.model}, which only answers: its weights and its preference "
            "accuracy cannot be checked; leaderboards are of weights at hand"
        )
    if record.judge is None:
        raise UserError(f"run '{folder}' has no judge; leaderboards are of win rates")
    if digest(spec)[:10] != record.id:
        raise UserError(
            f"run '{folder}': its record was edited (the settings do not give its id); run it again"
        )
    if spec["version"] != VERSION:
        raise UserError(
            f"run '{folder}' is of run version {spec['version']}, and this is {VERSION}; run it again"
        )
    if spec["task"]["hash"] != task.hash:
        raise UserError(
            f"run '{folder}' was made on other texts of task {task.name} than are here; run it again"
        )
    if spec["judge"] != key_of_judge(chosen, task, store):
        raise UserError(
            f"run '{folder}' was judged by an older '{record.judge.name}' than is here; "
            f"give it `fspo-bench score {folder} --judge {record.judge.name}`"
        )


def _refuse_leaks(folder: Path, record: Record, answered: Sequence[Answered], task: Task) -> None:
    validate(task, record.spec["preset"]["shots"])
    users, questions = (
        {u.user_id for u in task.users_of("test")},
        {q.question_id for q in task.questions_of("test")},
    )
    for a in answered:
        if a.user_id not in users or a.question_id not in questions:
            raise UserError(
                f"run '{folder}' leaks: user '{a.user_id}' or question '{a.question_id}' is not kept for "
                "testing; run it again"
            )


def _same_again(
    folder: Path, record: Record, answered: Sequence[Answered], task: Task, chosen: Chosen, store: Store
) -> None:
    """The record must say what its verdicts say, and these what the offline judge says when asked again."""
    judge = open_judge(chosen, task, store)
    if chosen.spec().model == OFFLINE:
        again = [replace(a, verdicts={}) for a in answered]
        judge_all(judge, task, again)
        for a, b in zip(answered, again, strict=True):
            if a.verdicts.keys() != b.verdicts.keys() or not all(
                _alike(v, b.verdicts[compared]) for compared, v in a.verdicts.items()
            ):
                raise UserError(
                    f"run '{folder}': the judge says otherwise of user '{a.user_id}', question "
                    f"'{a.question_id}'; its outputs or verdicts were edited, run it again"
                )
    metrics = judged(record.metrics, task, answered, card_of(judge).errors).model_dump()
    for name, value in record.metrics.model_dump().items():
        if value != metrics[name]:
            raise UserError(
                f"run '{folder}': its record gives another {name} than its verdicts do; it was edited, run "
                "it again"
            )


def _alike(a: Verdict, b: Verdict) -> bool:
    """Another machine rounds otherwise."""
    return a.p is not None and b.p is not None and abs(a.p - b.p) < TOLERANCE


def _same_reference(
    folder: Path, record: Record, answered: Sequence[Answered], others: Sequence[Submitted]
) -> None:
    """Runs of one task and model are against the same answers."""
    mine = {a.question_id: a.reference for a in answered}
    for other in others:
        if (other.record.task, other.record.spec["model"]) == (record.task, record.spec["model"]):
            for a in other.answered:
                if mine.get(a.question_id, a.reference) != a.reference:
                    raise UserError(
                        f"run '{folder}' is against other reference answers than {other.file} "
                        f"(question '{a.question_id}'); make both on one version"
                    )


def _write(file: Path, record: Record, verified: bool, answered: Sequence[Answered]) -> None:
    rows = [{k: v for k, v in asdict(a).items() if k != "shots"} for a in answered]
    entry = Entry(
        record=record, verified=verified, digest=_digest(record.model_dump(mode="json"), verified, rows)
    )
    text = "".join(canonical(row) + "\n" for row in rows)
    write_atomic(file.with_suffix(".jsonl.gz"), gzip.compress(text.encode(), mtime=0))
    write_atomic(file, entry.model_dump_json(indent=2) + "\n")


def _digest(record: dict[str, Any], verified: bool, rows: Sequence[dict[str, Any]]) -> str:
    return digest([FORMAT, record, verified, list(rows)])


def read_entries(root: Path) -> list[Submitted]:
    """Every entry under `root`, checked against its digest.

    Raises:
        UserError: an entry that is no entry, stands in another's place, or was edited.
    """
    return [_read(file) for file in sorted(root.glob("*/*/*.json"))]


def _read(file: Path) -> Submitted:
    try:
        entry = Entry.model_validate_json(file.read_text(encoding="utf-8"))
        with gzip.open(file.with_suffix(".jsonl.gz"), "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
    except (ValidationError, OSError, ValueError):
        raise UserError(
            f"{file}: not an entry of this version ({FORMAT}) with its answers; submit the run again"
        ) from None
    record = entry.record
    if (record.task, record.method, record.id) != (file.parent.parent.name, file.parent.name, file.stem):
        raise UserError(f"{file}: holds run {record.task}/{record.method}/{record.id}; move it there")
    written = record.model_dump(mode="json", exclude_unset=True)  # without fields that came in since
    if entry.digest != _digest(written, entry.verified, rows):
        raise UserError(f"{file}: was edited by hand (its digest is another's); submit the run again")
    return Submitted(file, entry, [_answered(row) for row in rows])


def _answered(row: dict[str, Any]) -> Answered:
    verdicts = {
        compared: Verdict(tuple(v["orders"]), tuple(v["a_first"]), v["reason"])
        for compared, v in row["verdicts"].items()
    }
    return Answered(**{**row, "verdicts": verdicts})
