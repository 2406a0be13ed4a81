"""Paired tests: closed forms, symmetry, and what they promise over many simulated experiments."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from fspo_bench.evaluate.paired import bootstrap_interval, detectable, holm, rank_ranges, sign_flip_p
from fspo_bench.evaluate.stats import ByUser, clustered_mean


def clustered(
    rng: np.random.Generator, users: int, each: int, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Judgements that hang together by user: a user's taste moves all of its answers."""
    taste = rng.normal(shift, 0.8, size=users)
    p = 1 / (1 + np.exp(-2 * taste))
    return (rng.random((users, each)) < p[:, None]).astype(float).ravel(), np.repeat(np.arange(users), each)


def test_intervals_cover_where_unclustered_ones_fail() -> None:
    rng = np.random.default_rng(0)
    taste = np.random.default_rng(1).normal(0, 0.8, size=1_000_000)
    truth = float(np.mean(1 / (1 + np.exp(-2 * taste))))
    covered = {"clustered": 0, "bootstrap": 0, "plain": 0}
    trials = 2000
    for trial in range(trials):
        values, users = clustered(rng, 40, 12)
        e = clustered_mean(values, users, users)
        low, high = bootstrap_interval(ByUser.of(values, users), draws=400, seed=trial)
        half = 1.96 * values.std(ddof=1) / len(values) ** 0.5
        covered["clustered"] += e.low <= 100 * truth <= e.high
        covered["bootstrap"] += low <= truth <= high
        covered["plain"] += abs(values.mean() - truth) <= half
    assert 0.93 <= covered["clustered"] / trials <= 0.97
    assert 0.92 <= covered["bootstrap"] / trials <= 0.97, (
        "a percentile interval is a little narrow at 40 users"
    )
    assert covered["plain"] / trials < 0.75


def test_the_standard_error_is_the_clustered_means() -> None:
    values, users = clustered(np.random.default_rng(2), 9, 7)
    e = clustered_mean(values, users, users)
    by_user = ByUser.of(values, users)
    assert 100 * by_user.mean == pytest.approx(e.value)
    half = scipy_stats.t.ppf(0.975, 8) * by_user.standard_error
    assert e.high - e.value == pytest.approx(100 * half)
    assert np.isnan(ByUser.of([1.0], ["u"]).standard_error)


def by_users(*sums: float) -> ByUser:
    return ByUser(np.array(sums), np.ones(len(sums)))


def test_sign_flips_are_exact_for_few_users() -> None:
    assert sign_flip_p(by_users(1, 1, 1, 1)) == 2 / 16
    assert sign_flip_p(by_users(3, 2, -1)) == 4 / 8  # |sum| >= 4: +++ 6, ++- 4, and their mirrors
    assert sign_flip_p(by_users(0, 0)) == 1.0
    assert sign_flip_p(by_users(1, 1, 1, 1, 0, 0)) == 2 / 16, "users without a difference say nothing"


def test_drawn_flips_agree_with_all_flips() -> None:
    sums = np.random.default_rng(3).normal(0.4, 1, size=18)
    flips = np.array(list(itertools.product([1, -1], repeat=18)))
    exact = np.mean(np.abs(flips @ sums) >= abs(sums.sum()) - 1e-9)
    assert sign_flip_p(ByUser(sums, np.ones(18))) == pytest.approx(exact, abs=0.012)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=10))
def test_the_sides_may_be_swapped(sums: list[float]) -> None:
    assert sign_flip_p(by_users(*sums)) == sign_flip_p(by_users(*(-x for x in sums)))


def test_no_difference_is_found_in_one_of_twenty() -> None:
    rng = np.random.default_rng(4)
    found = [sign_flip_p(ByUser(rng.normal(size=12), np.ones(12))) < 0.05 for _ in range(1000)]
    assert 0.03 < np.mean(found) < 0.07


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9]) == [0.9]
    assert holm([0.5, 0.6]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= min(1, p) for a, p in zip(adjusted, p_values, strict=True))
    assert all(adjusted[i] <= adjusted[j] for i in range(len(p_values)) for j in range(len(p_values))
               if p_values[i] < p_values[j])  # fmt: skip


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(5)
    users = 30
    size = detectable(ByUser(rng.normal(size=users) / 1.0, np.ones(users)))
    sizes, hits = [], 0
    for _ in range(1500):
        noise = rng.normal(size=users)
        sizes.append(detectable(ByUser(noise, np.ones(users))))
        hits += scipy_stats.ttest_1samp(noise + np.mean(sizes), 0).pvalue < 0.05
    assert 0.76 < hits / 1500 < 0.84
    assert size == pytest.approx(np.mean(sizes), rel=0.5)


def test_rank_ranges_are_as_wide_as_what_cannot_be_told_apart() -> None:
    means = [70.0, 60.0, 58.0, 40.0]
    p = np.array([[1, 0.01, 0.01, 0.01], [0.01, 1, 0.6, 0.01], [0.01, 0.6, 1, 0.2], [0.01, 0.01, 0.2, 1]])
    assert rank_ranges(p, means) == [(1, 1), (2, 3), (2, 4), (3, 4)]
    assert rank_ranges(np.ones((4, 4)), means) == [(1, 4)] * 4


def test_a_million_verdicts_are_resampled_as_sums_of_users() -> None:
    """What a bootstrap costs hangs on users and draws, not on verdicts: 0.2 s on two cores, all in all."""
    rng = np.random.default_rng(6)
    values, users = rng.integers(0, 2, 1_000_000).astype(float), rng.integers(0, 1500, 1_000_000)
    by_user = ByUser.of(values, users)
    assert (len(by_user.sums), by_user.counts.sum()) == (1500, 1_000_000)
    low, high = bootstrap_interval(by_user)
    assert low < by_user.mean < high
    assert high - low == pytest.approx(2 * 1.96 * by_user.standard_error, rel=0.1)
