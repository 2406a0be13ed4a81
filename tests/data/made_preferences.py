"""Files of preferences for the tests of `new-task`, and what becomes of them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.data.new_task import Columns, Report, new_task
from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.validate import validate

NAMES = ("user", "prompt", "chosen", "rejected")
Cells = Sequence[Any]
DATA = ("users.jsonl", "questions.jsonl", "preferences.jsonl")


def make(
    file: Path,
    share: float = 0.2,
    least: int = 5,
    seed: int = 0,
    columns: Columns | None = None,
    out: str = "out",
) -> Report:
    return new_task(file, file.parent / out, columns or Columns(), share, least, seed, "CC0-1.0")


def jsonl(file: Path, rows: Sequence[Cells]) -> Path:
    lines = (json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    file.write_bytes("".join(lines).encode())
    return file


def write_csv(file: Path, rows: Sequence[Cells]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([NAMES, *rows])
    return file


def grid(users: int = 12, questions: int = 15) -> list[tuple[str, str, str, str]]:
    """Every user about every question, with answers of its own."""
    return [
        (f"u{u}", f"Thing {q}?", f"yes {q} {u}", f"no {q} {u}")
        for q in range(questions)
        for u in range(users)
    ]


def made(tmp_path: Path, rows: Sequence[Cells], **options: Any) -> tuple[Report, Task]:
    """The report and the task of these rows, which validates and adds up."""
    report = make(jsonl(tmp_path / "given.jsonl", rows), **options)
    task = sound(report)
    assert report.read == len(rows)
    return report, task


def sound(report: Report) -> Task:
    """What must hold of every task made: `run` can draw an episode of every user."""
    task = load_task(report.out)
    assert validate(task)["test users with 4 shots"] == report.users["test"]
    assert report.read == report.kept + sum(report.dropped.values()) and report.kept == len(task.rows)
    for split in ("train", "test"):
        assert report.users[split] == len(task.users_of(split)) > 0
        assert report.questions[split] == len(task.questions_of(split)) > 0
    for seed in range(3):  # a round of episodes has every train user
        episodes = task.train_episodes(4, 1, report.users["train"], seed)
        assert {e.user_id for e in episodes} == {u.user_id for u in task.users_of("train")}
    assert {r.user_id for r in task.rows} == set(task.users)
    assert {r.question_id for r in task.rows} == set(task.questions)
    return task


def dropped(report: Report, word: str) -> int:
    return next(count for why, count in report.dropped.items() if word in why)


def splits(task: Task) -> tuple[dict[str, str], dict[str, str]]:
    """Of users by id, of questions by prompt."""
    by_prompt = {q.prompt: str(q.split) for q in task.questions.values()}
    return {u.user_id: str(u.split) for u in task.users.values()}, by_prompt


def refused(file: Path, *parts: str, out: str = "out", **options: Any) -> None:
    """A sentence with all these parts, and nothing new beside the file."""
    before = set(file.parent.iterdir())
    with pytest.raises(UserError) as caught:
        make(file, out=out, **options)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert set(file.parent.iterdir()) == before
