"""Reading a task's folder; every error names file, line and field."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from fspo_bench.data.tasks import Answer, PreferenceRow, Question, Row, Task, TaskSpec, User
from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.store import digest, file_sha256

RowT = TypeVar("RowT", bound=Row)


def load_task(folder: Path) -> Task:
    """Read and check a task's folder.

    Raises:
        UserError: naming the file, line and field that are wrong.
    """
    task = load_head(folder)
    return task if task.structured else replace(task, rows=tuple(preferences_of(task)))


def load_head(folder: Path) -> Task:
    """The task without the rows of its `preferences.jsonl`, which `preferences_of` reads one by one."""
    spec, spec_file = read_spec(folder), folder / "task.yaml"
    users_file, questions_file = _data_file(folder, "users"), _data_file(folder, "questions")
    users = _index(read_rows(users_file, User), "user_id", users_file)
    questions = _index(read_rows(questions_file, Question), "question_id", questions_file)
    answers: dict[str, Answer] = {}
    if any(folder.glob("answers.jsonl*")):
        file = _data_file(folder, "answers")
        answers = _index(read_rows(file, Answer), "answer_id", file)
        _known(answers.values(), "question_id", questions, file)
    else:
        file = _data_file(folder, "preferences")
    if spec.nearest:
        _placed(users.values(), {q.kind for q in questions.values()}, spec.nearest, users_file)
    key = digest([file_sha256(f) for f in (spec_file, users_file, questions_file, file)])
    return Task(folder.name, folder, spec, users, questions, answers, (), key)


def preferences_of(task: Task) -> Iterator[PreferenceRow]:
    """The rows of a task's `preferences.jsonl` in their order, each checked, one in memory at a time.

    Raises:
        UserError: naming the file, line and field that are wrong.
    """
    file = _data_file(task.folder, "preferences")
    for line, row in enumerate(parsed(_lines(file), PreferenceRow, file), 1):
        _known([row], "question_id", task.questions, file, line)
        _known([row], "user_id", task.users, file, line)
        if row.chosen == row.rejected:
            raise UserError(
                f"{file}, line {line}, field 'chosen': equals 'rejected'; a preference needs two texts"
            )
        yield row


def count_preferences(task: Task) -> int:
    """How many rows `preferences_of` gives, if none is wrong."""
    return sum(1 for _ in _lines(_data_file(task.folder, "preferences")))


def read_spec(folder: Path) -> TaskSpec:
    """A folder's `task.yaml`."""
    file = folder / "task.yaml"
    return _parse(TaskSpec, _yaml(file), str(file))


def _placed(users: Iterable[User], kinds: set[str], scale: str, file: Path) -> None:
    """On a scale, every user has a place: one for all kinds of question, or one for each."""
    for line, user in enumerate(users, 1):
        if scale not in user.traits and (missing := sorted(kinds - set(user.traits))):
            raise UserError(
                f"{file}, line {line}, field 'traits': has neither '{scale}' nor '{missing[0]}'; "
                f"task.yaml says `nearest: {scale}`, so give the user's place on that scale"
            )


def read_rows(file: Path, kind: type[RowT]) -> list[RowT]:
    """Parse a `.jsonl` or `.jsonl.gz` file; every error names file, line and field."""
    return list(parsed(_lines(file), kind, file))


def parsed(lines: Iterable[bytes], kind: type[RowT], file: Path) -> Iterator[RowT]:
    """The rows of JSON lines; every error names file, line and field."""
    for number, line in enumerate(lines, 1):
        where = f"{file}, line {number}"
        try:
            value = json.loads(line)
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
        yield _parse(kind, value, where)


def _lines(file: Path) -> Iterator[bytes]:
    """The lines of a file but for empty ones at its end."""
    empty = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for line in lines:
                if line == b"\n":
                    empty += 1
                    continue
                yield from [b""] * empty
                empty = 0
                yield line.removesuffix(b"\n")
    except (OSError, EOFError, zlib.error):
        if file.suffix != ".gz":
            raise
        raise UserError(f"{file}: not a gzip file, or cut short") from None


def _parse(kind: type[RowT], value: object, where: str) -> RowT:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "whole value"
        if first["type"] == "extra_forbidden":
            problem = f"unknown key{did_you_mean(field, kind.model_fields)}"
        elif first["type"] == "missing":
            problem = "missing"
        else:
            problem = first["msg"][0].lower() + first["msg"][1:]
        raise UserError(f"{where}, field '{field}': {problem}") from None


def _yaml(file: Path) -> object:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no task.yaml in '{file.parent}'; a task is a folder that has one") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not YAML in UTF-8 ({str(error).splitlines()[0]})") from None


def _data_file(folder: Path, stem: str) -> Path:
    for file in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz"):
        if file.is_file():
            return file
    raise UserError(f"task folder '{folder}' has no {stem}.jsonl or {stem}.jsonl.gz")


def _index(rows: Sequence[RowT], key: str, file: Path) -> dict[str, RowT]:
    index: dict[str, RowT] = {}
    for line, row in enumerate(rows, 1):
        value = getattr(row, key)
        if value in index:
            raise UserError(f"{file}, line {line}, field '{key}': '{value}' is there twice")
        index[value] = row
    if not index:
        raise UserError(f"{file}: no rows")
    return index


def _known(rows: Iterable[Row], key: str, known: Container[str], file: Path, first: int = 1) -> None:
    for line, row in enumerate(rows, first):
        value = getattr(row, key)
        if value not in known:
            raise UserError(
                f"{file}, line {line}, field '{key}': no such {key.removesuffix('_id')} '{value}'"
            )
