"""Whether runs bear a claim out: holds, does not hold, or cannot be told at this n.

Runs of several seeds count as one: wins are averaged over seeds for each user and question, and users stay
the units. A claim `a > b` holds where the whole 95% interval of a's wins less b's, paired by user and
question, lies above 0, and does not hold where the whole of it lies below; `a >= b` asks the same of minus
a margin. Between two groups of users nothing can be paired: the interval is that of a difference of two
clustered means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from fspo_bench.evaluate.compare import Finished, Place, mean_of
from fspo_bench.evaluate.metrics import GAIN
from fspo_bench.evaluate.paired import sign_flip_p
from fspo_bench.evaluate.stats import UNBOUNDED, ByUser, Estimate

MARGIN = 5.0  # points of win rate by which `>=` may fall short
HOLDS, FAILS, UNTOLD = "holds", "does not hold", "cannot be told"

Wins = Mapping[Place, float]


@dataclass(frozen=True)
class Finding:
    """What runs say of a claim: the difference in points with its 95% interval."""

    claim: str
    column: str
    outcome: str
    difference: Estimate
    p: float | None
    """Two-sided, by flipping users' signs; None where nothing is paired."""
    confounded: str = ""
    """Why it counts for nothing."""


def pooled(runs: Sequence[Finished]) -> dict[Place, float]:
    """Wins averaged over seeds, on the places where every seed has a verdict."""
    by_place: dict[Place, list[float]] = defaultdict(list)
    for run in runs:
        for place, win in run.wins.items():
            if win is not None:
                by_place[place].append(win)
    return {p: float(np.mean(wins)) for p, wins in sorted(by_place.items()) if len(wins) == len(runs)}


def paired(better: Wins, worse: Wins) -> tuple[Estimate, float]:
    """The difference on what both have, and its sign-flip p."""
    differences = less(better, worse)
    by_user = ByUser.of(list(differences.values()), [user for user, *_ in differences])
    return mean_of(differences, GAIN), sign_flip_p(by_user)


def less(wins: Wins, others: Wins) -> Wins:
    """By how much, on what both have."""
    return {p: wins[p] - others[p] for p in sorted(wins.keys() & others.keys())}


def unpaired(better: Wins, worse: Wins) -> Estimate:
    """The difference between two groups of users; t with the smaller group's users - 1."""
    a, b = mean_of(better, UNBOUNDED), mean_of(worse, UNBOUNDED)
    df = min(a.n_users, b.n_users) - 1
    errors = [(x.value - x.low) / scipy_stats.t.ppf(0.975, x.n_users - 1) for x in (a, b)]
    half = float(scipy_stats.t.ppf(0.975, df) * np.hypot(*errors))
    value = a.value - b.value
    return Estimate(value, max(-100.0, value - half), min(100.0, value + half), a.n_users + b.n_users,
                    max(a.n_questions, b.n_questions), a.n + b.n)  # fmt: skip


def outcome(difference: Estimate, strict: bool) -> str:
    """From the difference's interval; one user leaves none."""
    least = 0.0 if strict else -MARGIN
    if difference.low > least:
        return HOLDS
    return FAILS if difference.high < least else UNTOLD
