"""Tasks: users, questions and preferences with fixed splits, read from a folder.

    task.yaml            what it is (`TaskSpec`; an unknown key is an error)
    users.jsonl(.gz)     {user_id, split, group?, description?, traits?}
    questions.jsonl      {question_id, split, prompt, kind?}
    and one of
    answers.jsonl        {answer_id, question_id, text, loadings, weak?}: labels follow from traits x loadings
    preferences.jsonl    {user_id, question_id, chosen, rejected}: labels as people gave them

Splits: a method trains on `train` users and questions and is tested on `test` users and questions;
what is `judge` is read by the offline judge alone. Where the users are few and fixed (five levels of
schooling), they are `seen`: trained on and tested on, with other questions.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fspo_bench.errors import UserError
from fspo_bench.store import digest

Split = Literal["train", "test", "judge"]
UserSplit = Literal["train", "test", "judge", "seen"]

EVALUATION_SEED = 0  # test episodes are the same for every method and training seed


class Row(BaseModel):
    """What a person writes or reads: no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskSpec(Row):
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
    shots: int = Field(default=8, ge=1)  # that every test user can show: proved by `validate`
    judge_reads: Literal["states", "lexicon"] = "states"  # what the offline judge knows a text by
    nearest: str = ""  # a scale on which users want the answer nearest to themselves (see `Task.worth`)


class User(Row):
    """One person or persona. Only the judge, the oracle and RAT's target may read the description."""

    user_id: str
    split: UserSplit
    group: str = ""
    description: str = ""
    traits: dict[str, float] = {}


class Question(Row):
    """One prompt."""

    question_id: str
    split: Split
    prompt: str = Field(min_length=1)
    kind: str = ""
    group: str = ""  # questions of one group (a conversation) never stand in both shots and queries


class Answer(Row):
    """One authored answer and the traits it speaks to."""

    answer_id: str
    question_id: str
    text: str = Field(min_length=1)
    loadings: dict[str, float]
    weak: bool = False


class PreferenceRow(Row):
    """One line of `preferences.jsonl`."""

    user_id: str
    question_id: str
    chosen: str = Field(min_length=1)
    rejected: str = Field(min_length=1)


@dataclass(frozen=True)
class Rows:
    """What a task's `hub.py` returns: the same rows as in files, and what to say beside every number."""

    users: Sequence[User]
    questions: Sequence[Question]
    preferences: Sequence[PreferenceRow]
    note: str = ""


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
    round: int = 0
    """Counts the test episodes of one user, each with other shots."""


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
    note: str = ""
    """What to say beside every number (a part of the data, options)."""

    @property
    def structured(self) -> bool:
        """Labels follow from traits and loadings (rather than from a file of preferences)."""
        return bool(self.answers)

    def users_of(self, split: Split) -> list[User]:
        return [u for u in self.users.values() if u.split in (split, "seen")]

    def questions_of(self, split: Split) -> list[Question]:
        return [q for q in self.questions.values() if q.split == split]

    def asked_of(self, user: User, split: Split) -> list[Question]:
        """A split's questions for this user: all where labels follow from traits, else those rated."""
        if self.structured:
            return self.questions_of(split)
        rated = map(self.questions.__getitem__, self._rows_of.get(user.user_id, ()))
        return [q for q in rated if q.split == split]

    @cached_property
    def answers_to(self) -> dict[str, list[Answer]]:
        by: dict[str, list[Answer]] = defaultdict(list)
        for answer in self.answers.values():
            by[answer.question_id].append(answer)
        return by

    @cached_property
    def _rows_of(self) -> dict[str, dict[str, list[PreferenceRow]]]:
        """By user, then by question."""
        by: dict[str, dict[str, list[PreferenceRow]]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            by[row.user_id][row.question_id].append(row)
        return by

    def worth(self, user: User, kind: str, loadings: Mapping[str, float], weak: float) -> float:
        """How much a user wants an answer with these loadings to a question of this kind.

        Traits x loadings, or, on a scale that the task names as `nearest`, minus the distance between
        the answer's place and the user's (which stands under the question's kind where users have one
        for each kind, else under the scale's name); less the penalty of a weak answer.
        """
        scale = self.spec.nearest
        if not scale:
            wanted = sum(user.traits.get(trait, 0.0) * x for trait, x in loadings.items())
        elif scale in loadings:
            place = user.traits[kind] if kind in user.traits else user.traits[scale]
            wanted = -abs(place - loadings[scale])
        else:
            wanted = 0.0
        return wanted - self.spec.weak_penalty * weak

    def utility(self, user: User, answer: Answer) -> float:
        """How much the user wants this answer."""
        kind = self.questions[answer.question_id].kind
        return self.worth(user, kind, answer.loadings, float(answer.weak))

    def margin(self, user: User, a: Answer, b: Answer) -> float:
        """How much more the user wants `a` than `b`; 0 when it is under-determined."""
        margin = self.utility(user, a) - self.utility(user, b)
        return margin if abs(margin) >= self.least_margin else 0.0

    @property
    def least_margin(self) -> float:
        """From which difference of utilities on a pair has a label; equal utilities never have one."""
        return max(self.spec.min_margin, 1e-9)

    def prefer(self, user: User, a: Answer, b: Answer) -> Preference | None:
        """The user's label of a pair, or None when it is under-determined."""
        margin = self.margin(user, a, b)
        if not margin:
            return None
        chosen, rejected = (a, b) if margin > 0 else (b, a)
        prompt = self.questions[a.question_id].prompt
        return Preference(a.question_id, prompt, chosen.text, rejected.text)

    def _preferences(self, user: User, question: Question, rng: random.Random) -> list[Preference]:
        """The user's preferences about a question, in random order; one pair of views where many follow."""
        if not self.structured:
            rows = self._rows_of[user.user_id][question.question_id]
            return [
                Preference(row.question_id, question.prompt, row.chosen, row.rejected)
                for row in rng.sample(rows, len(rows))
            ]
        answers = self.answers_to[question.question_id]
        views = [a for a in answers if not a.weak]
        others = [a for a in answers if a.weak] if rng.random() < self.spec.weak_share else views
        pairs = [(a, b) for a in views for b in others if a.answer_id != b.answer_id]
        for a, b in rng.sample(pairs, len(pairs)):
            if preference := self.prefer(user, a, b):
                return [preference]
        return []

    def draw(self, user: User, split: Split, rng: random.Random, *sizes: int) -> list[tuple[Preference, ...]]:
        """Disjoint sets of up to `sizes` preferences of a user about a split's questions.

        No question, and no group of questions, gives to two sets.
        """
        questions = self.asked_of(user, split)
        shuffled = iter(rng.sample(questions, len(questions)))
        used: set[str] = set()
        sets = []
        for size in sizes:
            drawn: list[Preference] = []
            groups: set[str] = set()
            while len(drawn) < size and (question := next(shuffled, None)):
                group = question.group or question.question_id
                if group not in used:
                    groups.add(group)
                    drawn += self._preferences(user, question, rng)
            used |= groups
            sets.append(tuple(drawn[:size]))
        return sets

    def _seed(self, *parts: object) -> random.Random:
        return random.Random(digest([self.name, self.spec.version, *parts]))

    def train_episodes(self, shots: int, queries: int, n: int, seed: int) -> Iterator[Episode]:
        """`n` episodes over train users and questions; users come round in a shuffled order.

        A user with too few preferences for a query behind the shots is passed over.
        """
        users = self.users_of("train")
        order: list[User] = []
        yielded = 0
        for index in itertools.count():
            if yielded == n:
                return
            if not order:
                order = self._seed("order", seed, index).sample(users, len(users))
            user = order.pop()
            support, asked = self.draw(user, "train", self._seed("train", seed, index), shots, queries)
            if asked:
                yield Episode(user.user_id, support, asked)
                yielded += 1
            elif not yielded and not order:
                self._require(user, len(support), shots + 1)

    def test_episodes(self, shots: int, queries: int, n: int, seed: int) -> list[Episode]:
        """`n` episodes of test users: shots from train questions, queries from test ones.

        Each user has one, in shuffled order; `seen` users are few and come round again, with other shots.
        """
        users = self._seed("test-users", seed).sample(self.users_of("test"), len(self.users_of("test")))
        rounds = any(u.split == "seen" for u in users)
        episodes = []
        for index in range(n if rounds else min(n, len(users))):
            round_, place = divmod(index, len(users))
            user = users[place]
            rng = self._seed("test", seed, user.user_id, *([round_] if round_ else []))
            (support,) = self.draw(user, "train", rng, shots)
            self._require(user, len(support), shots)
            (held_out,) = self.draw(user, "test", rng, queries)
            self._require(user, len(held_out), 1)
            episodes.append(Episode(user.user_id, support, held_out, round_))
        return episodes

    def _require(self, user: User, have: int, need: int) -> None:
        if have < need:
            raise UserError(
                f"task {self.name}: user '{user.user_id}' ({user.split}) has preferences about {have} "
                f"questions, needs at least {need}; use fewer shots (run: --set shots=N) or give more "
                "preferences"
            )
