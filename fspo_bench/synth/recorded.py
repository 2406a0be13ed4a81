"""What the stages of a synthesis have recorded in `TASK/.synth/`, as far as the report reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field

from fspo_bench.data.task_files import parsed
from fspo_bench.data.tasks import Row

FOLDER = ".synth"
Side = Literal["a", "b", "tie"]


class Recorded(Row):
    """A row of a stage; what else it holds is the synthesis' own affair."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class QuestionRow(Recorded):
    """A line of `questions.jsonl`."""

    question_id: str
    prompt: str
    seed: bool = False


class PersonaRow(Recorded):
    """A line of `personas.jsonl`."""

    user_id: str
    description: str


class ResponseRow(Recorded):
    """A line of `responses.jsonl`."""

    answer_id: str
    question_id: str
    text: str
    model: str = ""
    how: str = "plain"


class LabelRow(Recorded):
    """A line of `labels.jsonl`: one asking, in both orders or in one."""

    user_id: str
    question_id: str
    a: str
    b: str
    refinement: int = Field(ge=0, le=30_000)
    ab: Side | None
    """The verdict where `a` is shown first."""
    ba: Side | None
    outcome: Literal["a", "b", "tie", "flip", "invalid"]


class RefinementRow(Recorded):
    """A line of `refinements.jsonl`."""

    user_id: str
    refinement: int
    description: str


class DroppedRow(Recorded):
    """A line of `dropped.jsonl`."""

    stage: str
    why: str


RowT = TypeVar("RowT", bound=Recorded)


def stage_rows(folder: Path, stage: str, kind: type[RowT]) -> Iterator[RowT]:
    """The rows of a stage so far, one in memory at a time; none where it has not begun.

    Raises:
        UserError: naming the file, line and field that are wrong.
    """
    for file in stage_files(folder, stage):
        with file.open("rb") as lines:
            yield from parsed(_whole(lines), kind, file)


def stage_size(folder: Path, stage: str) -> int:
    """Lines that a stage has so far."""
    size = 0
    for file in stage_files(folder, stage):
        with file.open("rb") as lines:
            size += sum(1 for _ in lines)
    return size


def stage_files(folder: Path, stage: str) -> list[Path]:
    """A stage's file; where it is not finished, what there is of it: shards, and parts that still grow."""
    file = folder / f"{stage}.jsonl"
    if file.is_file():
        return [file]
    return sorted(f for f in folder.glob(f"{stage}.*") if f.name.endswith((".jsonl", ".jsonl.part")))


def _whole(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Without a last line that is still being written."""
    return takewhile(lambda line: line.endswith(b"\n"), lines)
