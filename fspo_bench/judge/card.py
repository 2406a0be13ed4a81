"""The judge judged: its verdicts against labels that it has never seen, beside dummies that need no judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.evaluate.stats import Crossed
from fspo_bench.judge.pairs import Labelled, every_pair, some_pairs
from fspo_bench.judge.verdicts import Comparison, Judge, Verdict, half

WARN_BELOW = 70.0  # percent of held-out labels


@dataclass(frozen=True)
class Card:
    """Shares over the labelled pairs that got a verdict. `views` is the headline."""

    views: Crossed
    """Right on pairs of real views (half credit where the orders disagree)."""
    with_weak: Crossed
    """Right on pairs of a real view and a weak answer."""
    longest: Crossed
    """A dummy: always the longer answer, on pairs of real views."""
    first: Crossed
    """A dummy: always the answer that happens to stand first, on pairs of real views."""
    says_longer: Crossed
    """Verdicts for the longer answer, on pairs of real views: `longest` is how often users say so."""
    says_first: Crossed
    """Verdicts for the answer shown first, over all orders and pairs."""
    consistent: Crossed
    """Both orders name the same answer."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why pairs got no verdict."""

    @property
    def errors(self) -> Crossed:
        """Right over all pairs, as an answer may be a view or weak: what corrected rates use."""
        return Crossed(self.views.right + self.with_weak.right, self.views.total + self.with_weak.total)

    @property
    def pairs(self) -> int:
        """Asked about, with a verdict or without."""
        return int(self.errors.total.sum()) + sum(self.reasons.values())


def comparisons(pairs: Iterable[Labelled]) -> list[Comparison]:
    """What is asked about labelled pairs; the chosen answer stands for a."""
    return [Comparison(p.user_id, p.question, p.chosen, p.rejected) for p in pairs]


def measure_judge(judge: Judge, task: Task, n: int | None = None) -> Card:
    """The judge's card on `n` labelled pairs of test users (default: on all of them).

    Raises:
        UserError: not one pair got a verdict.
    """
    pairs = list(some_pairs(task, n)) if n else every_pair(task)
    counts = _Counts(task)
    for labelled, verdicts in _judged(judge, pairs):
        for pair, verdict in zip(labelled, verdicts, strict=True):
            counts.add(pair, verdict)
    card = counts.card()
    if not card.errors.total.sum():
        why = ", ".join(f"{count} {reason}" for reason, count in card.reasons.items()) or "there are none"
        raise UserError(
            f"judge '{judge.name}': no verdict on any labelled pair of task {task.name} ({why}); look at its "
            "prompt and parser"
        )
    return card


def _judged(
    judge: Judge, pairs: Iterable[list[Labelled]]
) -> Iterable[tuple[Sequence[Labelled], Sequence[Verdict]]]:
    """Few pairs are judged in one go; the many of a cheap judge user by user."""
    if isinstance(pairs, list):
        pairs = [[pair for of_user in pairs for pair in of_user]]
    for labelled in pairs:
        yield labelled, judge.verdicts(comparisons(labelled), "judge card")


class _Counts:
    """Hits and totals of each share, (users, questions)."""

    SHARES = ("views", "with_weak", "longest", "first", "says_longer", "says_first", "consistent")

    def __init__(self, task: Task) -> None:
        self.users = {u.user_id: n for n, u in enumerate(task.users_of("test"))}
        self.questions = {q.question_id: n for n, q in enumerate(task.questions_of("test"))}
        self.counts = {s: np.zeros((2, len(self.users), len(self.questions))) for s in self.SHARES}
        self.reasons: dict[str, int] = {}

    def add(self, pair: Labelled, verdict: Verdict) -> None:
        """Count one pair; the judge was asked whether the chosen answer is preferred."""
        if verdict.win is None:
            self.reasons[verdict.reason] = self.reasons.get(verdict.reason, 0) + 1
            return
        place = self.users[pair.user_id], self.questions[pair.question_id]

        def count(share: str, hit: float) -> None:
            self.counts[share][:, place[0], place[1]] += hit, 1

        count("with_weak" if pair.weak else "views", verdict.win)
        if len(verdict.orders) > 1:
            count("consistent", float(bool(verdict.consistent)))
        for p, a_first in zip(verdict.orders, verdict.a_first, strict=False):
            count("says_first", half((p or 0.0) - 0.5) if a_first else 1 - half((p or 0.0) - 0.5))
        if pair.weak:
            return
        count("first", float(min(pair.chosen, pair.rejected) == pair.chosen))
        count("longest", half(len(pair.chosen) - len(pair.rejected)))
        if len(pair.chosen) != len(pair.rejected):
            longer = len(pair.chosen) > len(pair.rejected)
            count("says_longer", verdict.win if longer else 1 - verdict.win)

    def card(self) -> Card:
        asked = Crossed(*(self.counts["views"] + self.counts["with_weak"]))
        rows, columns = (asked.total.sum(axis) > 0 for axis in (1, 0))
        shares = {
            name: Crossed(*(c[rows][:, columns] for c in counts)) for name, counts in self.counts.items()
        }
        return Card(**shares, reasons=self.reasons)
