"""User-clustered statistics. Reads numbers, returns numbers; all rates in percent.

Judgements of one user hang together, so the user is the unit: standard errors are cluster-robust
over users and intervals are t with (users - 1) degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value, its 95% interval, and how many users, questions and judgements stand behind it."""

    value: float
    low: float
    high: float
    n_users: int
    n_questions: int
    n: int


@dataclass(frozen=True)
class ByUser:
    """What is needed of judgements once they are summed by user, in their own unit: shape (users,)."""

    sums: Array
    counts: Array

    @classmethod
    def of(cls, values: ArrayLike, users: ArrayLike) -> ByUser:
        """Sum values by user."""
        x = np.asarray(values, dtype=float)
        _, cluster = np.unique(np.asarray(users), return_inverse=True)
        return cls(np.bincount(cluster, x).astype(float), np.bincount(cluster).astype(float))

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    @property
    def standard_error(self) -> float:
        """Of the mean, clustered by user (CR1: factor users / (users - 1)); NaN for one user."""
        users = len(self.sums)
        if users < 2:
            return float("nan")
        left = self.sums - self.mean * self.counts
        return float(np.sqrt(users / (users - 1) * np.sum(left**2)) / self.counts.sum())


UNBOUNDED = (-np.inf, np.inf)


def clustered_mean(
    values: ArrayLike, users: ArrayLike, questions: ArrayLike, bounds: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """Mean of the values with a user-clustered t interval.

    Args:
        values: one number a judgement, shape (n,).
        users: the user of each judgement, shape (n,).
        questions: the question of each judgement, shape (n,), counted only.
        bounds: what a value can be; the interval stays within.
    """
    x = np.asarray(values, dtype=float)
    by_user = ByUser.of(x, users)
    n_users = len(by_user.sums)
    half = float(scipy_stats.t.ppf(0.975, n_users - 1) * by_user.standard_error)
    n_questions = len(set(np.asarray(questions).tolist()))
    return _bounded(float(x.mean()), half, bounds, (n_users, n_questions, len(x)))


def _bounded(
    value: float, half: float, bounds: tuple[float, float], counts: tuple[int, int, int]
) -> Estimate:
    """In percent, within bounds; a NaN half width stays a NaN interval."""
    low, high = (float(np.clip(x, *bounds)) for x in (value - half, value + half))
    return Estimate(100 * value, 100 * low, 100 * high, *counts)


@dataclass(frozen=True)
class Crossed:
    """A share over users and questions that all meet: hits and all, shape (users, questions)."""

    right: Array
    total: Array

    @property
    def rate(self) -> float:
        return float(self.right.sum() / self.total.sum())

    @property
    def half_width(self) -> float:
        """Of the rate's 95% interval, clustered by user and by question (Cameron et al. 2011).

        The variance is the sum of the two one-way clustered ones less the cells' own, which both
        hold; t with (the smaller count - 1) degrees of freedom. NaN for one user or one question.
        """
        users, questions = self.right.shape
        if min(users, questions) < 2:
            return float("nan")
        left = self.right - self.rate * self.total
        by_user = users / (users - 1) * np.sum(left.sum(1) ** 2)
        by_question = questions / (questions - 1) * np.sum(left.sum(0) ** 2)
        variance = max(by_user + by_question - np.sum(left**2), by_user, by_question) / self.total.sum() ** 2
        return float(scipy_stats.t.ppf(0.975, min(users, questions) - 1) * np.sqrt(variance))

    def estimate(self) -> Estimate:
        """The rate in percent with its interval."""
        counts = (*self.right.shape, int(self.total.sum()))
        return _bounded(self.rate, self.half_width, (0.0, 1.0), counts)


def corrected_mean(
    values: ArrayLike, users: ArrayLike, questions: ArrayLike, judge: Crossed
) -> Estimate | None:
    """A rate with the judge's errors taken out (Rogan and Gladen 1978, symmetric errors).

    A judge that is right with probability a, whichever side is better, moves a rate r to
    1/2 + (2a - 1)(r - 1/2). The interval adds the two uncertainties by the delta method: of the rate
    (clustered by user, over 2a - 1) and of a (clustered by the users and questions of the judge's
    held-out verdicts).

    Returns:
        The estimate in percent, within [0, 100]; None for a judge no better than a coin.
    """
    plain = clustered_mean(values, users, questions, UNBOUNDED)
    slope = 2 * judge.rate - 1
    if slope <= 0:
        return None
    rate, half = plain.value / 100, (plain.value - plain.low) / 100
    value = 0.5 + (rate - 0.5) / slope
    of_judge = 2 * abs(rate - 0.5) / slope**2 * judge.half_width
    counts = (plain.n_users, plain.n_questions, plain.n)
    return _bounded(float(np.clip(value, 0, 1)), float(np.hypot(half / slope, of_judge)), (0.0, 1.0), counts)
