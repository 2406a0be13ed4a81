"""What is measured of preferences and of the labels they came from. Reads numbers, returns estimates.

Shares are in percent, cosines and entropies in their own unit. Intervals are 95%: by user where users
choose, by question where only texts are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from fspo_bench.evaluate.datacard import weighed
from fspo_bench.evaluate.stats import Estimate, clustered_mean
from fspo_bench.synth.columns import VERDICTS, Column, Labels, Table

Array = NDArray[np.float64]
LN2 = float(np.log(2))  # entropy of a coin: the most that a label can have
BOOTSTRAPS = 1000
OWN = 1000  # labels of a user that the observer may look at


def own_unit(e: Estimate) -> Estimate:
    """An estimate that is no percentage."""
    return replace(e, value=e.value / 100, low=e.low / 100, high=e.high / 100)


def wilson(hits: float, n: int) -> tuple[float, float]:
    """95% interval in percent of a share of n independent trials; at none or all, it is no point."""
    z2 = float(scipy_stats.norm.ppf(0.975)) ** 2
    middle, half = hits + z2 / 2, np.sqrt(z2 * (hits * (n - hits) / n + z2 / 4))
    low, high = np.clip((middle - half, middle + half), 0, n + z2) / (n + z2)
    return 100 * float(low), 100 * float(high)


def widened(e: Estimate) -> Estimate:
    """A share of none or all has no spread, and an interval by user that is a point: Wilson's instead, with
    the users as trials."""
    if e.value not in (0, 100) or e.low != e.high:
        return e
    low, high = wilson(e.value / 100 * e.n_users, e.n_users)
    return replace(e, low=low, high=high)


# --- texts ---


def mean_by_question(values: Mapping[str, Array]) -> Estimate:
    """Mean over all pairs of answers, with an interval by question (cosines: from -1 to 1)."""
    questions = np.repeat(np.arange(len(values)), [len(v) for v in values.values()])
    return own_unit(clustered_mean(np.concatenate(list(values.values())), questions, questions, (-1, 1)))


def median_by_question(values: Mapping[str, Array], seed: int = 0) -> Estimate:
    """Median over all pairs of answers; the interval is of 1,000 bootstraps over questions."""
    parts = list(values.values())
    rng = np.random.default_rng(seed)
    drawn = [
        np.median(np.concatenate([parts[n] for n in rng.integers(len(parts), size=len(parts))]))
        for _ in range(BOOTSTRAPS if len(parts) > 1 else 0)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975)) if drawn else (np.nan, np.nan)
    every = np.concatenate(parts)
    return Estimate(float(np.median(every)), float(low), float(high), len(parts), len(parts), len(every))


def near_pairs(vectors: NDArray[Any], least: float) -> list[tuple[float, int, int]]:
    """(cosine, i, j) of every two unit vectors at least that near, nearest first."""
    found = []
    for start in range(0, len(vectors), 512):
        near = vectors[start : start + 512] @ vectors.T
        for row, other in zip(*np.nonzero(near >= least), strict=True):
            if start + row < other:
                found.append((float(near[row, other]), int(start + row), int(other)))
    return sorted(found, key=lambda pair: (-pair[0], *pair[1:]))


# --- labels of a synthesis ---


@dataclass(frozen=True)
class Entropies:
    """Entropy of labels that were asked for repeatedly; each of shape (labels,)."""

    pair: Column
    user: Column
    question: Column
    nats: Array
    """-p ln p - (1 - p) ln(1 - p), where p is the share of verdicts for the first answer."""
    of_a_coin: Array
    """What as many tosses of a fair coin show on average: less than ln 2, since few tosses look firmer."""

    def mean(self, values: Array) -> Estimate:
        """Of the labels' entropies, or of the coins'."""
        return own_unit(clustered_mean(values, self.user, self.question, (0, LN2)))


def entropies(labels: Labels) -> Entropies:
    """Of every label that was asked for twice or more with a verdict; a tie is half a verdict for each."""
    verdicts = np.stack([labels.ab, labels.ba])
    for_a = (verdicts == VERDICTS["a"]).sum(0) + (verdicts == VERDICTS["tie"]).sum(0) / 2
    n = (verdicts != VERDICTS[None]).sum(0)
    pairs, first, place = np.unique(labels.pair, return_index=True, return_inverse=True)
    repeats, counts, a = (np.bincount(place, x, len(pairs)) for x in (n > 0, n, for_a))
    known = repeats >= 2
    return Entropies(
        pairs[known], labels.user[first][known], labels.question[first][known],
        binary_entropy(a[known] / counts[known]), coin_entropy(counts[known]),
    )  # fmt: skip


def binary_entropy(p: ArrayLike) -> Array:
    """In nats."""
    both = np.stack([np.asarray(p, dtype=float), 1 - np.asarray(p, dtype=float)])
    logs = np.log(both, out=np.zeros_like(both), where=both > 0)
    entropy: Array = -(both * logs).sum(0)
    return entropy


def coin_entropy(tosses: Column) -> Array:
    """Expected entropy of the share of heads in so many tosses of a fair coin."""
    values, place = np.unique(tosses.astype(int), return_inverse=True)
    expected = []
    for n in values:
        heads = np.arange(n + 1)
        expected.append(scipy_stats.binom.pmf(heads, n, 0.5) @ binary_entropy(heads / n))
    return np.array(expected, dtype=float)[place]


def fall(before: Entropies, after: Entropies) -> Estimate | None:
    """How far the entropy fell on labels that were asked for repeatedly both before and after."""
    _, first, second = np.intersect1d(before.pair, after.pair, return_indices=True)
    if not len(first):
        return None
    fallen = before.nats[first] - after.nats[second]
    return own_unit(clustered_mean(fallen, before.user[first], before.question[first], bounds=(-LN2, LN2)))


def outcome_share(labels: Labels, outcome: int) -> Estimate:
    """Share of askings with this outcome."""
    return clustered_mean(labels.outcome == outcome, labels.user, labels.question)


def says_first(labels: Labels) -> Estimate | None:
    """Verdicts for the answer shown first, over both orders; a tie is half. 50% without a position bias."""
    first = np.concatenate([_share_of(labels.ab, "a", "b"), _share_of(labels.ba, "b", "a")])
    known = ~np.isnan(first)
    if not known.any():
        return None
    users, questions = np.tile(labels.user, 2)[known], np.tile(labels.question, 2)[known]
    return clustered_mean(first[known], users, questions)


def _share_of(verdicts: Column, first: str, second: str) -> Array:
    values = np.full(max(VERDICTS.values()) + 1, np.nan)
    values[[VERDICTS[first], VERDICTS[second], VERDICTS["tie"]]] = 1, 0, 0.5
    share: Array = values[verdicts]
    return share


def says_longer(labels: Labels) -> Estimate | None:
    """Settled labels for the longer answer, of those on answers of different lengths."""
    settled = (labels.outcome <= 1) & (labels.longer != 0)
    if not settled.any():
        return None
    longer = (labels.outcome == 0) == (labels.longer > 0)
    return clustered_mean(longer[settled], labels.user[settled], labels.question[settled])


# --- users ---


@dataclass(frozen=True)
class Disagreement:
    """Of every two users: pairs that both labelled, and on which they chose differently: (users, users)."""

    users: list[str]
    common: NDArray[np.int64]
    different: NDArray[np.int64]
    least: int
    """Common pairs from which two users are compared."""

    @classmethod
    def of(cls, table: Table, least: int) -> Disagreement:
        """Count over the table's labels."""
        labels = table.labels.astype(np.int64)
        common = (abs(labels) @ abs(labels).T).toarray()
        return cls(table.users, common, (common - (labels @ labels.T).toarray()) // 2, least)

    @property
    def rates(self) -> Array:
        """Shares from 0 to 1; NaN for a user with itself, and where too few pairs are common."""
        enough = (self.common >= self.least) & ~np.eye(len(self.users), dtype=bool)
        return np.where(enough, self.different / np.maximum(self.common, 1), np.nan)

    def mean(self) -> Estimate | None:
        """Over pairs of users, with a jackknife over users: a user is in many pairs."""
        rates = self.rates
        counts, sums = np.isfinite(rates).sum(1), np.nansum(rates, 1)
        if not counts.any():
            return None
        users, total, left = int((counts > 0).sum()), sums.sum() / 2, counts.sum() / 2 - counts
        value = total / (counts.sum() / 2)
        half = float("nan")
        if users > 2 and left.min() > 0:
            without = (total - sums)[counts > 0] / left[counts > 0]
            error = np.sqrt((users - 1) / users * np.sum((without - without.mean()) ** 2))
            half = float(scipy_stats.t.ppf(0.975, users - 1) * error)
        low, high = np.clip((value - half, value + half), 0, 1)
        return Estimate(100 * value, 100 * float(low), 100 * float(high), users, 0, int(counts.sum() // 2))

    def never(self) -> list[tuple[int, str, str]]:
        """(common pairs, user, user) of users who agree on every common pair, most first."""
        one, other = np.nonzero(np.triu(self.rates == 0))
        found = [
            (int(self.common[i, j]), self.users[i], self.users[j]) for i, j in zip(one, other, strict=True)
        ]
        return sorted(found, key=lambda pair: (-pair[0], *pair[1:]))

    def expected_never(self) -> float:
        """How many would, if every two users were to differ on each pair at the mean rate."""
        rates = self.rates
        known = np.triu(np.isfinite(rates))
        return float(((1 - np.nanmean(rates)) ** self.common[known]).sum()) if known.any() else 0.0


# --- what shots tell ---


@dataclass(frozen=True)
class Observed:
    """An observer's accuracy, and how many labels nobody else could speak to."""

    accuracy: Estimate
    asked: int
    silent: int


def crowd_observer(table: Table, shots: int, users: int, questions: int, seed: int = 0) -> Observed | None:
    """What a user's shots and everybody else's labels tell of the user's other labels.

    For up to `questions` questions of each of up to `users` users: all that the user said about the
    question (and its group) is hidden, shots are drawn from other questions, one of each, the other users are
    weighed by how well their own labels agree with the shots (`weighed`), and their weighted vote on the
    very pair is the guess; an even vote is half right. Labels on pairs that no other user labelled say
    nothing and are left out. No shots: the plain majority. None where nothing can be asked.
    """
    rng = np.random.default_rng(seed)
    columns, labels = table.labels.tocsc(), table.labels
    right: list[Array] = []
    of_user: list[Column] = []
    of_question: list[Column] = []
    asked = 0
    for user in rng.permutation(len(table.users))[:users]:
        own = rng.permutation(np.arange(labels.indptr[user], labels.indptr[user + 1]))[:OWN]
        pairs, signs = labels.indices[own], labels.data[own]
        others = columns[:, pairs].toarray().astype(float)
        others[user] = 0
        for group in rng.permutation(np.unique(table.groups[pairs]))[:questions]:
            hidden = np.nonzero(table.groups[pairs] == group)[0]
            seen = _one_of_each(table.questions[pairs], table.groups[pairs] != group, shots, rng)
            if len(seen) < shots:
                continue
            asked += len(hidden)
            spoken = hidden[np.any(others[:, hidden] != 0, axis=0)]
            guess = weighed(others[:, seen] * signs[seen], others[:, spoken]) * signs[spoken]
            right.append(np.where(np.abs(guess) < 1e-9, 0.5, guess > 0))
            of_user.append(np.full(len(spoken), user))
            of_question.append(table.questions[pairs[spoken]])
    if not sum(map(len, right)):
        return None
    accuracy = clustered_mean(np.concatenate(right), np.concatenate(of_user), np.concatenate(of_question))
    return Observed(accuracy, asked, asked - accuracy.n)


def _one_of_each(questions: Column, allowed: Column, n: int, rng: np.random.Generator) -> Column:
    """Places of up to n allowed labels about as many questions."""
    places = rng.permutation(np.nonzero(allowed)[0])
    _, first = np.unique(questions[places], return_index=True)
    return places[np.sort(first)][:n]
