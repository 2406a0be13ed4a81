"""User-clustered statistics. Reads numbers, returns numbers; all rates in percent.

Judgements of one user hang together, so the user is the unit: standard errors are cluster-robust
over users and intervals are t with (users - 1) degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value, its 95% interval, and how many users, questions and judgements stand behind it."""

    value: float
    low: float
    high: float
    n_users: int
    n_questions: int
    n: int


def clustered_mean(
    values: ArrayLike, users: ArrayLike, questions: ArrayLike, percent: bool = True
) -> Estimate:
    """Mean of the values with a user-clustered t interval (CR1: factor users / (users - 1)).

    Args:
        values: one number a judgement, shape (n,).
        users: the user of each judgement, shape (n,).
        questions: the question of each judgement, shape (n,), counted only.
        percent: multiply value and interval by 100.
    """
    x = np.asarray(values, dtype=float)
    _, cluster = np.unique(np.asarray(users), return_inverse=True)
    n_users = int(cluster.max()) + 1
    mean = float(x.mean())
    half = float("nan")
    if n_users > 1:
        sums = np.bincount(cluster, x - mean, n_users)
        se = np.sqrt(n_users / (n_users - 1) * np.sum(sums**2)) / len(x)
        half = float(scipy_stats.t.ppf(0.975, n_users - 1) * se)
    scale = 100.0 if percent else 1.0
    n_questions = len(set(np.asarray(questions).tolist()))
    return Estimate(scale * mean, scale * (mean - half), scale * (mean + half), n_users, n_questions, len(x))


@dataclass(frozen=True)
class JudgeErrors:
    """The judge's held-out verdicts: right and all, shape (users, questions)."""

    right: NDArray[np.float64]
    total: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / self.total.sum())

    def resampled(self, rng: np.random.Generator, times: int) -> NDArray[np.float64]:
        """Accuracies over bootstrap draws of users and of questions (two-way), shape (times,)."""
        users, questions = self.right.shape
        u = rng.multinomial(users, np.full(users, 1 / users), times).astype(float)
        q = rng.multinomial(questions, np.full(questions, 1 / questions), times).astype(float)
        right = np.einsum("tu,uq,tq->t", u, self.right, q, optimize=True)
        total = np.einsum("tu,uq,tq->t", u, self.total, q, optimize=True)
        return np.asarray(right / np.maximum(total, 1e-9))

    def estimate(self, seed: int = 0) -> Estimate:
        draws = 100 * self.resampled(np.random.default_rng(seed), BOOTSTRAPS)
        low, high = np.percentile(draws, [2.5, 97.5])
        users, questions = self.right.shape
        return Estimate(100 * self.accuracy, float(low), float(high), users, questions, int(self.total.sum()))


def corrected_mean(
    values: ArrayLike,
    users: ArrayLike,
    questions: ArrayLike,
    judge: JudgeErrors,
    center: float = 0.5,
    seed: int = 0,
) -> Estimate | None:
    """The mean with the judge's errors taken out (Rogan and Gladen 1978, symmetric errors).

    A judge that is right with probability a, whichever side is better, moves a rate r to
    c + (2a - 1)(r - c) with c = 0.5; differences of rates have c = 0. The interval resamples
    users (of the values) and users and questions (of the judge's held-out verdicts), so it carries
    the judge's own uncertainty.

    Returns:
        The estimate in percent, rates clipped to [0, 100]; None for a judge no better than a coin.
    """
    x = np.asarray(values, dtype=float)
    plain = clustered_mean(x, users, questions)
    if judge.accuracy <= 0.5:
        return None
    rng = np.random.default_rng(seed)
    _, cluster = np.unique(np.asarray(users), return_inverse=True)
    n_users = int(cluster.max()) + 1
    weights = rng.multinomial(n_users, np.full(n_users, 1 / n_users), BOOTSTRAPS).astype(float)
    means = (weights @ np.bincount(cluster, x, n_users)) / (weights @ np.bincount(cluster, minlength=n_users))
    slopes = 2 * judge.resampled(rng, BOOTSTRAPS) - 1
    usable = slopes > 0.02  # a resample in which the judge is a coin says nothing
    draws = center + (means[usable] - center) / slopes[usable]
    value = center + (x.mean() - center) / (2 * judge.accuracy - 1)
    low, high = np.percentile(draws, [2.5, 97.5])
    floor = 0.0 if center else -1.0
    value, low, high = (100 * float(np.clip(v, floor, 1.0)) for v in (value, low, high))
    return Estimate(value, low, high, plain.n_users, plain.n_questions, plain.n)
