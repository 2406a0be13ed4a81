"""Tasks: users, questions and preferences with fixed splits, read from a folder.

    task.yaml            what it is (`TaskSpec`; an unknown key is an error)
    users.jsonl(.gz)     {user_id, split, group?, description?, traits?}
    questions.jsonl      {question_id, split, prompt, kind?}
    and one of
    answers.jsonl        {answer_id, question_id, text, loadings, weak?}: labels follow from traits x loadings
    preferences.jsonl    {user_id, question_id, chosen, rejected}: labels as people gave them

Splits: a method trains on `train` users and questions and is tested on `test` users and questions;
what is `judge` is read by the offline judge alone.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.store import digest, file_sha256

Split = Literal["train", "test", "judge"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskSpec(_Row):
    """`task.yaml`."""

    version: int = Field(ge=1)
    summary: str
    license: str
    source: str = ""
    citation: str = ""
    instruction: str = ""  # the system message every method and baseline gets
    max_new_tokens: int = Field(default=96, ge=1)
    min_margin: float = Field(default=0.0, ge=0)  # nearer utilities are under-determined: no label
    weak_share: float = Field(default=0.0, ge=0, le=1)  # share of drawn pairs that hold a weak answer
    weak_penalty: float = Field(default=0.0, ge=0)  # utility a weak answer lacks for everybody


class User(_Row):
    """One person or persona. Only the judge, the oracle and RAT's target may read the description."""

    user_id: str
    split: Split
    group: str = ""
    description: str = ""
    traits: dict[str, float] = {}


class Question(_Row):
    """One prompt."""

    question_id: str
    split: Split
    prompt: str = Field(min_length=1)
    kind: str = ""


class Answer(_Row):
    """One authored answer and the traits it speaks to."""

    answer_id: str
    question_id: str
    text: str = Field(min_length=1)
    loadings: dict[str, float]
    weak: bool = False


class PreferenceRow(_Row):
    """One line of `preferences.jsonl`."""

    user_id: str
    question_id: str
    chosen: str = Field(min_length=1)
    rejected: str = Field(min_length=1)


@dataclass(frozen=True)
class Preference:
    """One labelled pair of a user."""

    question_id: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Episode:
    """One user's shots and the held-out preferences behind them; no question is in both."""

    user_id: str
    shots: tuple[Preference, ...]
    queries: tuple[Preference, ...]


@dataclass(frozen=True)
class Task:
    """A loaded task. `hash` covers every byte of it that can change a number."""

    name: str
    folder: Path
    spec: TaskSpec
    users: dict[str, User]
    questions: dict[str, Question]
    answers: dict[str, Answer]
    rows: tuple[PreferenceRow, ...]
    hash: str

    @property
    def structured(self) -> bool:
        """Labels follow from traits and loadings (rather than from a file of preferences)."""
        return bool(self.answers)

    def users_of(self, split: Split) -> list[User]:
        return [u for u in self.users.values() if u.split == split]

    def questions_of(self, split: Split) -> list[Question]:
        return [q for q in self.questions.values() if q.split == split]

    @cached_property
    def answers_to(self) -> dict[str, list[Answer]]:
        by: dict[str, list[Answer]] = defaultdict(list)
        for answer in self.answers.values():
            by[answer.question_id].append(answer)
        return by

    @cached_property
    def _rows_of(self) -> dict[str, list[PreferenceRow]]:
        by: dict[str, list[PreferenceRow]] = defaultdict(list)
        for row in self.rows:
            by[row.user_id].append(row)
        return by

    def utility(self, user: User, answer: Answer) -> float:
        """How much the user wants this answer: traits x loadings, less the penalty of a weak one."""
        wanted = sum(user.traits.get(trait, 0.0) * x for trait, x in answer.loadings.items())
        return wanted - (self.spec.weak_penalty if answer.weak else 0.0)

    def prefer(self, user: User, a: Answer, b: Answer) -> Preference | None:
        """The user's label of a pair, or None when it is under-determined."""
        margin = self.utility(user, a) - self.utility(user, b)
        if abs(margin) < max(self.spec.min_margin, 1e-9):
            return None
        chosen, rejected = (a, b) if margin > 0 else (b, a)
        prompt = self.questions[a.question_id].prompt
        return Preference(a.question_id, prompt, chosen.text, rejected.text)

    def draw(self, user: User, question: Question, rng: random.Random) -> Preference | None:
        """One of the user's preferences about a question, or None if there is none."""
        if not self.structured:
            rows = [r for r in self._rows_of[user.user_id] if r.question_id == question.question_id]
            if not rows:
                return None
            row = rng.choice(rows)
            return Preference(row.question_id, question.prompt, row.chosen, row.rejected)
        answers = self.answers_to[question.question_id]
        views = [a for a in answers if not a.weak]
        others = [a for a in answers if a.weak] if rng.random() < self.spec.weak_share else views
        pairs = [(a, b) for a in views for b in others if a.answer_id != b.answer_id]
        for a, b in rng.sample(pairs, len(pairs)):
            if preference := self.prefer(user, a, b):
                return preference
        return None

    def draw_many(
        self, user: User, questions: Sequence[Question], n: int, rng: random.Random
    ) -> tuple[Preference, ...]:
        """Up to `n` preferences of a user, each about a different question."""
        drawn: list[Preference] = []
        for question in rng.sample(list(questions), len(questions)):
            if len(drawn) == n:
                break
            if preference := self.draw(user, question, rng):
                drawn.append(preference)
        return tuple(drawn)

    def _seed(self, *parts: object) -> random.Random:
        return random.Random(digest([self.name, self.spec.version, *parts]))

    def train_episodes(self, shots: int, queries: int, n: int, seed: int) -> Iterator[Episode]:
        """`n` episodes over train users and questions; users come round in a shuffled order."""
        users, questions = self.users_of("train"), self.questions_of("train")
        order: list[User] = []
        for index in range(n):
            rng = self._seed("train", seed, index)
            if not order:
                order = self._seed("order", seed, index).sample(users, len(users))
            user = order.pop()
            drawn = self.draw_many(user, questions, shots + queries, rng)
            self._require(user, len(drawn), shots + 1)
            yield Episode(user.user_id, drawn[:shots], drawn[shots:])

    def test_episodes(self, shots: int, queries: int, n: int, seed: int) -> list[Episode]:
        """One episode for each of `n` test users: shots from train questions, queries from test ones."""
        users = self._seed("test-users", seed).sample(self.users_of("test"), len(self.users_of("test")))
        episodes = []
        for user in users[:n]:
            rng = self._seed("test", seed, user.user_id)
            support = self.draw_many(user, self.questions_of("train"), shots, rng)
            self._require(user, len(support), shots)
            held_out = self.draw_many(user, self.questions_of("test"), queries, rng)
            self._require(user, len(held_out), 1)
            episodes.append(Episode(user.user_id, support, held_out))
        return episodes

    def _require(self, user: User, have: int, need: int) -> None:
        if have < need:
            raise UserError(
                f"task {self.name}: user '{user.user_id}' ({user.split}) has preferences about {have} "
                f"questions, needs at least {need}; use fewer shots (--set shots=N) or give more preferences"
            )


RowT = TypeVar("RowT", bound=_Row)


def load_task(folder: Path, name: str | None = None) -> Task:
    """Read and check a task's folder.

    Raises:
        UserError: naming the file, line and field that are wrong.
    """
    spec_file = folder / "task.yaml"
    spec = _parse(TaskSpec, _yaml(spec_file), str(spec_file))
    users_file, questions_file = _data_file(folder, "users"), _data_file(folder, "questions")
    users = _index(read_rows(users_file, User), "user_id", users_file)
    questions = _index(read_rows(questions_file, Question), "question_id", questions_file)
    files = [spec_file, users_file, questions_file]
    answers: dict[str, Answer] = {}
    rows: list[PreferenceRow] = []
    if any(folder.glob("answers.jsonl*")):
        file = _data_file(folder, "answers")
        answers = _index(read_rows(file, Answer), "answer_id", file)
        _known(answers.values(), "question_id", questions, file)
    else:
        file = _data_file(folder, "preferences")
        rows = read_rows(file, PreferenceRow)
        _known(rows, "question_id", questions, file)
        _known(rows, "user_id", users, file)
        for line, row in enumerate(rows, 1):
            if row.chosen == row.rejected:
                raise UserError(
                    f"{file}, line {line}, field 'chosen': equals 'rejected'; a preference needs two texts"
                )
    files.append(file)
    key = digest([file_sha256(f) for f in files])
    return Task(name or folder.name, folder, spec, users, questions, answers, tuple(rows), key)


def read_rows(file: Path, kind: type[RowT]) -> list[RowT]:
    """Parse a `.jsonl` or `.jsonl.gz` file; every error names file, line and field."""
    rows = []
    for number, line in enumerate(_lines(file), 1):
        where = f"{file}, line {number}"
        try:
            value = json.loads(line)
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
        rows.append(_parse(kind, value, where))
    return rows


def _lines(file: Path) -> list[bytes]:
    data = file.read_bytes()
    if file.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise UserError(f"{file}: not a gzip file, or cut short") from None
    return data.rstrip(b"\n").split(b"\n") if data.strip() else []


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


def _known(rows: Iterable[_Row], key: str, known: Container[str], file: Path) -> None:
    for line, row in enumerate(rows, 1):
        value = getattr(row, key)
        if value not in known:
            raise UserError(
                f"{file}, line {line}, field '{key}': no such {key.removesuffix('_id')} '{value}'"
            )
