"""What is asked of a judge, and what it says: the one form that all judges share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

ABSTAINED, UNPARSED, REFUSED = "abstained", "unparsed", "refused"  # why there is no verdict


class Comparison(NamedTuple):
    """Which of two answers to a prompt a user would prefer."""

    user_id: str
    question: str
    a: str
    b: str


@dataclass(frozen=True)
class Verdict:
    """P(the user prefers a to b), once for each order that the answers were shown in."""

    orders: tuple[float | None, ...]
    """None: this order gave no verdict. A single one for a judge that reads one answer at a time."""
    a_first: tuple[bool, ...] = ()
    """Whether a was shown before b in each order; empty where answers are not shown together."""
    reason: str = ""
    """Why an order gave none."""

    @property
    def p(self) -> float | None:
        """The mean over the orders; None unless every order gave a verdict, as one alone leans to a place."""
        known = self._known()
        return sum(known) / len(known) if known else None

    @property
    def win(self) -> float | None:
        """Half credit: 1 where a wins in every order, a half where the orders disagree."""
        known = self._known()
        return sum(half(p - 0.5) for p in known) / len(known) if known else None

    @property
    def consistent(self) -> bool | None:
        """Whether all orders name the same answer; None without a verdict."""
        known = self._known()
        return len({half(p - 0.5) for p in known}) == 1 if known else None

    def _known(self) -> list[float]:
        known = [p for p in self.orders if p is not None]
        return known if len(known) == len(self.orders) else []


class Judge(Protocol):
    """Anything that gives verdicts; `key` changes whenever a verdict can."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str: ...

    def verdicts(self, comparisons: Sequence[Comparison], label: str = "judge") -> list[Verdict]:
        """One for each comparison, in turn."""
        ...


def half(difference: float) -> float:
    """1 for a positive difference, 0 for a negative one, a half for none."""
    return 0.5 if difference == 0 else float(difference > 0)


def settled(a: str, b: str) -> Verdict | None:
    """What needs no judge: equal texts are even, and nobody prefers an empty answer to a text."""
    if a == b:
        return Verdict((0.5,))
    if not (a and b):
        return Verdict((float(bool(a)),))
    return None
