"""Preferences and labels as columns of numbers, read row by row: a million rows take some 30 MB.

Texts are known by hashes of what `plain` makes of them; of the texts themselves a sample is kept.
"""

from __future__ import annotations

import random
from array import array
from collections import defaultdict
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fspo_bench.data.tasks import PreferenceRow, Task
from fspo_bench.data.texts import plain
from fspo_bench.evaluate.datacard import labels_of, margins_of, pairs_of
from fspo_bench.store import digest
from fspo_bench.synth.recorded import LabelRow

Column = NDArray[Any]
VERDICTS = {None: 0, "a": 1, "b": 2, "tie": 3}
OUTCOMES = ("a", "b", "tie", "flip", "invalid")
ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads what is combined over 64 bits


def text_hash(text: str) -> int:
    """64 bits that two texts share where `plain` makes one of them."""
    return _hash(plain(text))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def sampled(names: Sequence[str], most: int, what: str) -> list[str]:
    """All, or `most` of them by a fixed seed, in their order."""
    if len(names) <= most:
        return list(names)
    chosen = set(random.Random(digest(["report", what])).sample(range(len(names)), most))
    return [name for n, name in enumerate(names) if n in chosen]


@dataclass
class SampledTexts:
    """Distinct texts by key, at most `most` each: those of the least hashes, in whatever order they come."""

    most: int
    kept: dict[Hashable, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, key: Hashable, text: str, hashed: int) -> None:
        texts = self.kept[key]
        if hashed in texts:
            return
        texts[hashed] = text
        if len(texts) > self.most:
            del texts[max(texts)]

    def texts(self) -> dict[Hashable, list[str]]:
        return {key: [text for _, text in sorted(texts.items())] for key, texts in self.kept.items()}


@dataclass(frozen=True)
class Preferences:
    """A row a preference; users and questions by their place in the task. Each of shape (rows,)."""

    user: Column
    question: Column
    chosen: Column
    """Hash of the text."""
    rejected: Column
    longer: Column
    """1 where the chosen text is the longer one, -1 where the rejected one is."""


def read_columns(
    task: Task, rows: Iterable[PreferenceRow], asked: Container[str], texts: SampledTexts
) -> Preferences:
    """Columns of the rows; texts about the questions `asked` go into the sample under the question's id."""
    place_of_user = {user_id: n for n, user_id in enumerate(task.users)}
    place_of_question = {question_id: n for n, question_id in enumerate(task.questions)}
    user, question, longer = array("i"), array("i"), array("b")
    hashes = array("Q"), array("Q")
    for row in rows:
        user.append(place_of_user[row.user_id])
        question.append(place_of_question[row.question_id])
        longer.append(_sign(len(row.chosen) - len(row.rejected)))
        for text, column in zip((row.chosen, row.rejected), hashes, strict=True):
            column.append(text_hash(text))
            if row.question_id in asked:
                texts.add(row.question_id, text, column[-1])
    return Preferences(*(np.array(c) for c in (user, question, *hashes, longer)))


def _sign(x: int) -> int:
    return (x > 0) - (x < 0)


@dataclass(frozen=True)
class Table:
    """Who prefers which answer of a pair: 1 the first, -1 the second, 0 unknown; shape (users, pairs)."""

    users: list[str]
    labels: csr_matrix
    questions: Column
    """Of each pair, shape (pairs,): the question's place in the task."""
    groups: Column
    """Of each pair, shape (pairs,): questions of one group are never apart."""

    @classmethod
    def of_traits(cls, task: Task, most: int) -> Table:
        """Labels of test users on views of train and test questions, as they follow from the traits."""
        by_id = {u.user_id: u for u in task.users_of("test")}
        users = sampled(list(by_id), most, "users")
        pairs = list(pairs_of(task, ("train", "test")))
        labels = labels_of(task, margins_of(task, [by_id[u] for u in users], pairs))
        place = {question_id: n for n, question_id in enumerate(task.questions)}
        questions = np.array([place[a.question_id] for a, _ in pairs])
        return cls(users, csr_matrix(labels.astype(np.int32)), questions, _groups(task)[questions])

    @classmethod
    def of_preferences(cls, task: Task, rows: Preferences, most: int) -> Table:
        """Labels of users who gave some; one who preferred each answer of a pair once has none on it."""
        names = list(task.users)
        present = [names[n] for n in np.unique(rows.user)]
        users = sampled(present, most, "users")
        known = set(users)
        row_of = np.cumsum([name in known for name in names]) - 1
        kept = np.isin(rows.user, [n for n, name in enumerate(names) if name in known])
        chosen, rejected, question = rows.chosen[kept], rows.rejected[kept], rows.question[kept]
        first, second = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
        keys = combined(combined(first, second), question.astype(np.uint64))
        _, place, column = np.unique(keys, return_index=True, return_inverse=True)
        signs = np.where(chosen == first, 1, -1).astype(np.int32)
        shape = (len(users), len(place))
        labels = csr_matrix((signs, (row_of[rows.user[kept]], column)), shape=shape).sign()
        labels.eliminate_zeros()
        questions = question[place]
        return cls(users, labels, questions, _groups(task)[questions])


def combined(high: Column, low: Column) -> Column:
    """One hash of two, of unsigned 64 bits, which wrap."""
    mixed: Column = (high ^ (high >> np.uint64(29))) * ODD + low
    return mixed


def _groups(task: Task) -> Column:
    """The group of each question, as a number; a question without one is its own."""
    names = [("group", q.group) if q.group else ("", q.question_id) for q in task.questions.values()]
    place: dict[tuple[str, str], int] = {}
    return np.array([place.setdefault(name, len(place)) for name in names])


@dataclass(frozen=True)
class Labels:
    """A row an asking of a labeller. Each column of shape (rows,)."""

    user: Column
    question: Column
    pair: Column
    """Hash of user, question and both answers."""
    refinement: Column
    ab: Column
    """By `VERDICTS`."""
    ba: Column
    outcome: Column
    """By its place in `OUTCOMES`."""
    longer: Column
    """1 where `a` is the longer answer, -1 where `b` is, 0 where neither is or it is not known."""

    def where(self, mask: Column) -> Labels:
        return Labels(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))

    @property
    def before(self) -> Labels:
        """Of the personas as they were first described."""
        return self.where(self.refinement == 0)

    @property
    def after(self) -> Labels:
        """Of every persona's last description; of one that was never refined, the first."""
        last = np.zeros(self.user.max(initial=-1) + 1, dtype=np.int16)
        np.maximum.at(last, self.user, self.refinement)
        return self.where(self.refinement == last[self.user])


def read_labels(rows: Iterable[LabelRow], lengths: Mapping[str, int]) -> Labels:
    """Columns of a labelling; `lengths` are characters by answer."""
    users: dict[str, int] = {}
    questions: dict[str, int] = {}
    columns = [array(kind) for kind in "iiQhbbbb"]
    for row in rows:
        pair = _hash("\x1f".join((row.user_id, row.question_id, row.a, row.b)))
        known = row.a in lengths and row.b in lengths
        values = (
            users.setdefault(row.user_id, len(users)),
            questions.setdefault(row.question_id, len(questions)),
            pair,
            row.refinement,
            VERDICTS[row.ab],
            VERDICTS[row.ba],
            OUTCOMES.index(row.outcome),
            _sign(lengths[row.a] - lengths[row.b]) if known else 0,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return Labels(*(np.array(c) for c in columns))
