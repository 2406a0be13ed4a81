"""User-clustered statistics against closed forms, simulation and planted truths."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from fspo_bench.evaluate import stats
from fspo_bench.evaluate.stats import Crossed, Estimate, clustered_mean, corrected_mean

Floats = NDArray[np.float64]


def verdicts(accuracy: float, users: int, questions: int, seed: int = 0, each: int = 4) -> Crossed:
    """Held-out verdicts of a judge that is right with that probability."""
    total = np.full((users, questions), float(each))
    right = np.random.default_rng(seed).binomial(each, accuracy, (users, questions)).astype(float)
    return Crossed(right, total)


def exact(accuracy: float) -> Crossed:
    """A judge of known accuracy, the same for every user and question: no uncertainty of its own."""
    return Crossed(np.full((20, 20), 1000 * accuracy), np.full((20, 20), 1000.0))


def wins(users: int, each: int, rate: float, spread: float, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Binary outcomes whose rate differs between users (beta, mean `rate`), and their users."""
    rng = np.random.default_rng(seed)
    own = rng.beta(rate / spread, (1 - rate) / spread, users)
    return (rng.random((users, each)) < own[:, None]).astype(float).ravel(), np.repeat(np.arange(users), each)


def half_width(e: Estimate) -> float:
    return (e.high - e.low) / 2


# --- the clustered mean ---


@given(st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), min_size=2, max_size=8))
def test_equal_clusters_give_the_t_interval_of_user_means(rows: list[list[int]]) -> None:
    """With CR1 the clustered SE is then the plain SE of the user means, exactly."""
    values = np.array(rows, dtype=float)
    users = np.repeat(np.arange(len(rows)), 3)
    e = clustered_mean(values.ravel(), users, np.zeros(values.size), stats.UNBOUNDED)
    means = values.mean(1)
    se = means.std(ddof=1) / math.sqrt(len(means))
    assert e.value == pytest.approx(100 * means.mean(), abs=1e-9)
    assert half_width(e) == pytest.approx(100 * scipy_stats.t.ppf(0.975, len(means) - 1) * se, abs=1e-7)


def test_one_judgement_a_user_gives_the_textbook_interval() -> None:
    x = np.random.default_rng(0).normal(size=30)
    e = clustered_mean(x, np.arange(30), np.zeros(30), stats.UNBOUNDED)
    low, high = scipy_stats.t.interval(0.95, 29, x.mean(), scipy_stats.sem(x))
    assert (e.low, e.high) == pytest.approx((100 * low, 100 * high))


def test_unequal_clusters_by_hand() -> None:
    """Mean 0.5; user sums of residuals +1, -1; SE = sqrt(2/1 * 2)/4 = 0.5; t(1) = 12.706."""
    e = clustered_mean([1, 1, 0, 0], ["a", "a", "b", "b"], ["p", "q", "p", "q"], stats.UNBOUNDED)
    assert e.value == 50
    assert half_width(e) == pytest.approx(100 * 12.7062 * 0.5, abs=0.01)
    lopsided = clustered_mean([1, 1, 1, 0], ["a", "a", "a", "b"], [1, 2, 3, 1], stats.UNBOUNDED)
    assert lopsided.value == 75  # judgements count equally, whoever made them
    assert half_width(lopsided) == pytest.approx(
        100 * 12.7062 * math.sqrt(2 * (0.75**2 + 0.75**2)) / 4, abs=0.01
    )
    assert (lopsided.n_users, lopsided.n_questions, lopsided.n) == (2, 3, 4)


def test_one_user_leaves_no_interval() -> None:
    e = clustered_mean([1, 0, 1], ["a"] * 3, [1, 2, 3])
    assert e.value == pytest.approx(200 / 3)
    assert math.isnan(e.low)
    assert math.isnan(e.high)


def test_the_order_of_rows_does_not_matter() -> None:
    x, users = wins(10, 4, 0.6, 0.5, seed=1)
    shuffled = np.random.default_rng(2).permutation(len(x))
    a, b = clustered_mean(x, users, users), clustered_mean(x[shuffled], users[shuffled], users[shuffled])
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def test_clustered_intervals_cover_and_unclustered_ones_do_not() -> None:
    """Users differ (uniform rates), so ten judgements of one user are worth far less than ten users."""
    times, truth, covered = 1000, 50.0, np.zeros(2)
    for seed in range(times):
        x, users = wins(30, 10, 0.5, 0.5, seed)
        for k, clusters in enumerate((users, np.arange(len(x)))):
            e = clustered_mean(x, clusters, users)
            covered[k] += e.low <= truth <= e.high
    clustered, unclustered = covered / times
    assert 0.93 <= clustered <= 0.97
    assert unclustered < 0.80


def test_swapping_the_sides_mirrors_everything() -> None:
    """wr(a, b) = 100 - wr(b, a), the interval too, ties (a half) included."""
    x, users = wins(12, 5, 0.7, 0.5, seed=3)
    x[::7] = 0.5
    judge = verdicts(0.8, 20, 10)
    for one, other in [
        (clustered_mean(x, users, users), clustered_mean(1 - x, users, users)),
        (corrected_mean(x, users, users, judge), corrected_mean(1 - x, users, users, judge)),
    ]:
        assert one
        assert other
        assert (one.value, one.low, one.high) == pytest.approx(
            (100 - other.value, 100 - other.high, 100 - other.low)
        )


def test_a_million_values_aggregate() -> None:
    users = np.arange(1_000_000) % 1000
    x = (users < 300).astype(float)
    e = clustered_mean(x, users, np.arange(1_000_000) % 50)
    assert (e.n_users, e.n_questions, e.n) == (1000, 50, 1_000_000)
    assert e.value == pytest.approx(30)
    se = math.sqrt(0.3 * 0.7 / 999)  # of a thousand users that always answer alike
    assert half_width(e) == pytest.approx(100 * scipy_stats.t.ppf(0.975, 999) * se)


# --- the judge's own errors ---


def test_the_judges_accuracy_is_right_over_all() -> None:
    judge = Crossed(np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([[4.0, 1.0], [1.0, 2.0]]))
    assert judge.rate == 6 / 8
    assert judge.estimate().value == 75
    assert (judge.estimate().n_users, judge.estimate().n_questions, judge.estimate().n) == (2, 2, 8)


def test_the_judges_interval_sees_users_and_questions() -> None:
    """Verdicts that hang on the user alone, or on the question alone, are worth few judgements."""
    of_user = np.repeat((np.arange(16) < 12).astype(float)[:, None], 16, axis=1)
    independent = np.random.default_rng(0).permuted(of_user.ravel()).reshape(16, 16)
    all_of = np.ones((16, 16))
    plain = half_width(Crossed(independent, all_of).estimate())
    se = 100 * math.sqrt(0.75 * 0.25 / 16)
    for clustered in (of_user, of_user.T):
        width = half_width(Crossed(clustered, all_of).estimate())
        assert width == pytest.approx(1.96 * se, rel=0.15)
        assert width > 2 * plain


# --- the corrected mean ---


@pytest.mark.parametrize("accuracy", [0.65, 0.8, 0.95])
@pytest.mark.parametrize("rate", [0.3, 0.5, 0.75])
def test_the_correction_recovers_a_planted_rate(rate: float, accuracy: float) -> None:
    x, users = wins(600, 30, rate, 0.1, seed=5)
    truth = 100 * x.mean()
    right = np.random.default_rng(6).random(len(x)) < accuracy
    seen = np.where(right, x, 1 - x)
    e = corrected_mean(seen, users, users, verdicts(accuracy, 100, 60))
    assert e
    assert e.value == pytest.approx(truth, abs=3)
    assert e.low <= truth <= e.high
    if rate != 0.5:
        raw = 100 * seen.mean()
        assert raw == pytest.approx(
            50 + (2 * accuracy - 1) * (truth - 50), abs=1.5
        )  # what the judge makes of it


def test_the_correction_by_hand() -> None:
    e = corrected_mean([1, 1, 1, 0, 0] * 4, np.arange(20), np.arange(20), exact(0.75))
    assert e
    assert e.value == pytest.approx(50 + 10 / 0.5)


def test_a_perfect_judge_changes_no_value() -> None:
    x, users = wins(30, 4, 0.6, 0.5, seed=7)
    e = corrected_mean(x, users, users, exact(1.0))
    assert e
    assert e.value == pytest.approx(100 * x.mean())


@pytest.mark.parametrize("accuracy", [0.3, 0.5])
def test_a_judge_no_better_than_a_coin_corrects_nothing(accuracy: float) -> None:
    assert corrected_mean([1, 0, 1], [0, 1, 2], [0, 1, 2], exact(accuracy)) is None


def test_a_judge_barely_better_than_a_coin_does_not_crash() -> None:
    e = corrected_mean([1, 0, 1], [0, 1, 2], [0, 1, 2], exact(0.505))
    assert e is None or e.low <= e.value <= e.high


def test_corrected_rates_stay_within_bounds() -> None:
    e = corrected_mean([0.0] * 9 + [0.1], range(10), range(10), exact(0.52))
    assert e
    assert e.value == e.low == 0
    assert e.high <= 100


def test_intervals_of_differences_may_be_negative_and_rates_may_not() -> None:
    values, users = [0.0, 0.5, -0.5, 0.25], [0, 1, 2, 3]
    assert clustered_mean(values, users, users, (-1.0, 1.0)).low < 0
    assert clustered_mean(np.abs(values), users, users).low == 0


def test_the_corrected_interval_is_wider_than_the_plain_one() -> None:
    x, users = wins(60, 6, 0.55, 0.3, seed=8)
    plain = clustered_mean(x, users, users)
    widths = [half_width(plain)]
    for accuracy in (0.9, 0.75, 0.65):  # ever wider as the judge gets worse
        e = corrected_mean(x, users, users, exact(accuracy))
        assert e
        widths.append(half_width(e))
    assert widths == sorted(widths)
    assert widths[2] == pytest.approx(2 * widths[0], rel=0.1)  # 1 / (2a - 1)


def test_the_corrected_interval_carries_the_judges_own_uncertainty() -> None:
    x, users = wins(60, 6, 0.8, 0.1, seed=9)
    eight_of_ten = (np.arange(10) < 8).astype(float)[:, None]
    sure = corrected_mean(x, users, users, exact(0.8))
    unsure = corrected_mean(x, users, users, Crossed(np.repeat(eight_of_ten, 10, 1), np.ones((10, 10))))
    assert sure
    assert unsure
    assert unsure.value == pytest.approx(sure.value)
    assert half_width(unsure) > 1.3 * half_width(sure)


def test_the_corrected_interval_is_wider_with_few_users_too() -> None:
    x, users = [1, 1, 0, 1, 0, 0, 1, 0], [0, 0, 1, 1, 2, 2, 3, 3]
    e = corrected_mean(x, users, users, exact(0.99))
    assert e
    assert half_width(e) >= min(half_width(clustered_mean(x, users, users)), 50)


def test_one_user_leaves_no_corrected_interval() -> None:
    e = corrected_mean([1, 1, 0], [0, 0, 0], [0, 1, 2], exact(0.9))
    assert e is None or math.isnan(e.low)


def test_corrected_intervals_cover_the_planted_rate() -> None:
    """Users, the judge's slips on them, and the held-out verdicts all drawn anew each time."""
    times, covered, plain_covered = 300, 0, 0
    for seed in range(times):
        x, users = wins(50, 8, 0.7, 0.3, seed)
        seen = np.where(np.random.default_rng(1000 + seed).random(len(x)) < 0.8, x, 1 - x)
        e = corrected_mean(seen, users, users, verdicts(0.8, 30, 10, seed=2000 + seed, each=1))
        plain = clustered_mean(seen, users, users)
        assert e
        covered += e.low <= 70 <= e.high
        plain_covered += plain.low <= 70 <= plain.high
    assert 0.91 <= covered / times <= 0.985
    assert plain_covered / times < 0.5
