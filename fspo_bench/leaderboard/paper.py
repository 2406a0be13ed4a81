"""The paper's tables as data: `leaderboards/paper/*.yaml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.packs import builtin_root

CLAIM = re.compile(r"(\w+)(?:\.(\w+))? (>=?) (\w+)(?:\.(\w+))?(?: beside (\w+))?")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Part):
    """What a column is measured on; without a task only people could measure it again."""

    task: str = ""
    group: Literal["", "trained users", "new users"] = ""
    """Of test users; empty for all."""


class Row(_Part):
    """One line: the paper's figures, and the run that makes ours."""

    id: str
    name: str
    method: str = ""
    set: dict[str, Any] = {}
    answers: Literal["", "cool", "warm", "persona", "views"] = ""
    """In place of a method: answers whose likeness is measured (see `diversity`)."""
    paper: dict[str, float] = {}
    """By column; none where the row is ours."""
    secondary: bool = False
    """The figures come from a summary that the authors did not write."""


class Claim(_Part):
    """`better` stands above `worse`, or (`>=`) is no further below it than a margin; `beside` a third row,
    each by how far it is from that one in its own column."""

    text: str
    better: str
    better_column: str
    worse: str
    worse_column: str
    beside: str
    strict: bool

    @classmethod
    def parse(cls, text: str) -> Claim:
        """`fspo > ipo`, on every column; `fspo.trained >= fspo.interpolated beside oracle`, between two."""
        if not (found := CLAIM.fullmatch(text)):
            raise ValueError(
                f"'{text}' is no claim: write ROW > ROW or ROW.COLUMN >= ROW.COLUMN [beside ROW]"
            )
        better, better_column, sign, worse, worse_column, beside = found.groups(default="")
        return cls(text=text, better=better, better_column=better_column, worse=worse,
                   worse_column=worse_column, beside=beside, strict=sign == ">")  # fmt: skip


class PaperTable(_Part):
    """One table of the paper."""

    title: str
    measured: str
    provenance: str
    uncertain: list[str]
    columns: dict[str, Column]
    rows: list[Row]
    claims: list[str]
    confounded: dict[str, str] = {}
    """Claims that are put to the test too, but count for nothing, and why."""

    @property
    def unit(self) -> str:
        """What intervals are clustered by."""
        return "question" if any(row.answers for row in self.rows) else "user"

    def row(self, row_id: str) -> Row:
        """The line of that id."""
        return next(row for row in self.rows if row.id == row_id)

    @property
    def parsed_claims(self) -> list[Claim]:
        return [Claim.parse(text) for text in (*self.claims, *self.confounded)]

    @model_validator(mode="after")
    def _names_are_known(self) -> PaperTable:
        ids = [row.id for row in self.rows]
        if twice := {i for i in ids if ids.count(i) > 1}:
            raise ValueError(f"two rows are called '{twice.pop()}'")
        for row in self.rows:
            for column in row.paper:
                _known(column, self.columns, f"row '{row.id}': column")
        for claim in self.parsed_claims:
            for row_id in filter(None, (claim.better, claim.worse, claim.beside)):
                _known(row_id, ids, f"claim '{claim.text}': row")
            for column in filter(None, (claim.better_column, claim.worse_column)):
                _known(column, self.columns, f"claim '{claim.text}': column")
        return self


def _known(name: str, known: Any, what: str) -> None:
    if name not in known:
        raise ValueError(f"{what} '{name}' is not there{did_you_mean(name, known)}")


def folder() -> Path:
    """Where the tables lie."""
    return builtin_root() / "leaderboards" / "paper"


def table_names() -> list[str]:
    """Every table of the paper that is on file."""
    return sorted(f.stem for f in folder().glob("*.yaml"))


def read_table(name: str) -> PaperTable:
    """A table by its name.

    Raises:
        UserError: no such table, or a fault in its file.
    """
    if name not in table_names():
        raise UserError(f"unknown table '{name}'{did_you_mean(name, table_names())}")
    file = folder() / f"{name}.yaml"
    try:
        return PaperTable.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{file}: {reason}") from None
