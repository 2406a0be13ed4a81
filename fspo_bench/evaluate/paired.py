"""Methods set against each other on the same users and questions. Users are the units of every test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from fspo_bench.evaluate.stats import Array, ByUser

EXACT_UP_TO = 16  # users: 65,536 flips are all tried, beyond that DRAWS are
DRAWS = 20_000
POWER = 0.8


def sign_flip_p(differences: ByUser, seed: int = 0) -> float:
    """Two-sided p of no difference: users' differences could as well have the other sign.

    All flips up to 16 users, so that p is exact; 20,000 drawn ones beyond, counted with the one seen.
    """
    sums = differences.sums[differences.sums != 0]  # a zero stays one either way
    if not len(sums):
        return 1.0
    seen = abs(sums.sum()) - 1e-9
    if len(sums) <= EXACT_UP_TO:
        flips = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        return float(np.mean(np.abs(flips @ sums) >= seen))
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(DRAWS // 1000):
        flips = 1 - 2 * rng.integers(0, 2, size=(1000, len(sums)), dtype=np.int8)
        hits += int(np.sum(np.abs(flips @ sums) >= seen))
    return (hits + 1) / (DRAWS + 1)


def bootstrap_interval(values: ByUser, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean over resampled users."""
    rng, users = np.random.default_rng(seed), len(values.sums)
    times = rng.multinomial(users, np.full(users, 1 / users), size=draws)
    means = (times @ values.sums) / (times @ values.counts)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p adjusted so that the chance of any false finding in the table stays below its level (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return [float(adjusted[place]) for place in np.argsort(order, kind="stable")]


def detectable(differences: ByUser) -> float:
    """The true difference that a test at 5% finds in 80% of such experiments: (t_0.975 + t_0.8) x se."""
    df = len(differences.sums) - 1
    if df < 1:
        return float("nan")
    quantiles = scipy_stats.t.ppf(0.975, df) + scipy_stats.t.ppf(POWER, df)
    return float(quantiles * differences.standard_error)


def rank_ranges(p_values: Array, means: ArrayLike, level: float = 0.05) -> list[tuple[int, int]]:
    """Best and worst rank of each method, 1 the best: past it stand those that the test finds to be better.

    Args:
        p_values: adjusted ones of each pair of methods, shape (methods, methods), symmetric.
        means: each method's rate.
        level: below which a pair is told apart.
    """
    rates = np.asarray(means, dtype=float)
    apart = np.asarray(p_values) < level
    better = apart & (rates[None, :] > rates[:, None])
    worse = apart & (rates[None, :] < rates[:, None])
    return [(1 + int(b), len(rates) - int(w)) for b, w in zip(better.sum(1), worse.sum(1), strict=True)]
