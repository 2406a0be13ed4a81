"""Labelled pairs of a task by which judges are fitted and measured."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from fspo_bench.data.tasks import Answer, Split, Task, User
from fspo_bench.store import digest


@dataclass(frozen=True)
class Labelled:
    """A pair that a test user has labelled, about a test question."""

    user_id: str
    question_id: str
    question: str
    chosen: str
    rejected: str
    weak: bool
    """Whether one of the two is a weak answer."""


def determined_pairs(
    task: Task, user: User, split: Split, rng: random.Random, per_question: int | None = None
) -> Iterator[tuple[Answer, Answer]]:
    """(preferred, other) for a user's determined pairs about a split's questions."""
    for question in task.questions_of(split):
        pairs = list(itertools.combinations(task.answers_to[question.question_id], 2))
        for a, b in pairs if per_question is None else rng.sample(pairs, min(per_question, len(pairs))):
            if margin := task.margin(user, a, b):
                yield (a, b) if margin > 0 else (b, a)


def every_pair(task: Task) -> Iterator[list[Labelled]]:
    """All labelled pairs of test users about test questions, user by user."""
    for user in task.users_of("test"):
        if task.structured:
            yield [
                Labelled(user.user_id, a.question_id, task.questions[a.question_id].prompt, a.text, b.text,
                         a.weak or b.weak)
                for a, b in determined_pairs(task, user, "test", random.Random(0))
            ]  # fmt: skip
        else:
            yield _drawn(task, user, len(task.rows))


def some_pairs(task: Task, n: int) -> Iterator[list[Labelled]]:
    """About `n` of them, spread over users and questions, weak answers in the task's own share.

    The same pairs every time: a judge that is measured again asks nothing new.
    """
    users = task.users_of("test")
    users = random.Random(digest(["card users", task.name, task.spec.version])).sample(
        users, min(n, len(users))
    )
    share, rest = divmod(n, len(users))
    for place, user in enumerate(users):
        yield _drawn(task, user, share + (place < rest))


def _drawn(task: Task, user: User, n: int) -> list[Labelled]:
    rng = random.Random(digest(["card", task.name, task.spec.version, user.user_id]))
    (preferences,) = task.draw(user, "test", rng, n)
    weak = {(a.question_id, a.text) for a in task.answers.values() if a.weak}
    return [
        Labelled(user.user_id, p.question_id, p.prompt, p.chosen, p.rejected,
                 not weak.isdisjoint({(p.question_id, p.chosen), (p.question_id, p.rejected)}))
        for p in preferences
    ]  # fmt: skip
