"""Claims hold, fail or cannot be told; seeds are pooled answer by answer and users stay the units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fspo_bench.evaluate.compare import Finished
from fspo_bench.evaluate.stats import Estimate
from fspo_bench.leaderboard.claims import FAILS, HOLDS, UNTOLD, outcome, paired, pooled, unpaired
from tests.made import a_record


def wins(rate: float, users: int = 20, seed: int = 0) -> dict[tuple[str, int, str], float]:
    rng = np.random.default_rng(seed)
    return {(f"u{u}", 0, f"q{q}"): float(rng.random() < rate) for u in range(users) for q in range(5)}


def an_estimate(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 9, 5, 45)


@pytest.mark.parametrize(
    ("low", "high", "strict", "equal_or_better"),
    [(1, 5, HOLDS, HOLDS), (-1, 5, UNTOLD, HOLDS), (-9, 5, UNTOLD, UNTOLD), (-4, -1, FAILS, HOLDS),
     (-9, -1, FAILS, UNTOLD), (-9, -6, FAILS, FAILS)],
)  # fmt: skip
def test_outcomes(low: float, high: float, strict: str, equal_or_better: str) -> None:
    assert outcome(an_estimate(low, high), strict=True) == strict
    assert outcome(an_estimate(low, high), strict=False) == equal_or_better


def test_no_interval_tells_nothing() -> None:
    assert outcome(an_estimate(float("nan"), float("nan")), strict=True) == UNTOLD


def test_a_real_difference_is_found_and_none_is_not() -> None:
    better, p = paired(wins(0.9), wins(0.4, seed=1))
    assert outcome(better, strict=True) == HOLDS
    assert p < 0.01
    same, p = paired(wins(0.6), wins(0.6, seed=1))
    assert outcome(same, strict=True) == UNTOLD
    assert p > 0.05


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000))
def test_swapping_sides_swaps_the_difference(seed: int) -> None:
    a, b = wins(0.7, seed=seed), wins(0.5, seed=seed + 1)
    one, other = paired(a, b)[0], paired(b, a)[0]
    assert one.value == pytest.approx(-other.value)
    assert one.low == pytest.approx(-other.high)


def test_groups_of_other_users_are_compared_unpaired() -> None:
    a = {(f"a{u}", *rest): w for (u, *rest), w in wins(0.9, users=12).items()}
    b = {(f"b{u}", *rest): w for (u, *rest), w in wins(0.3, users=6, seed=1).items()}
    difference = unpaired(a, b)
    assert difference.n_users == 18
    assert difference.low > 0
    alone = [np.mean(list(w.values())) for w in (a, b)]
    assert difference.value == pytest.approx(100 * (alone[0] - alone[1]))


def test_seeds_are_averaged_where_all_have_a_verdict() -> None:
    place, other = ("u", 0, "q"), ("u", 0, "r")
    runs = [Finished(a_record(), {place: 1.0, other: 1.0}), Finished(a_record(), {place: 0.0, other: None})]
    assert pooled(runs) == {place: 0.5}


def test_more_seeds_are_not_more_users() -> None:
    runs = [Finished(a_record(), dict(wins(0.7, seed=s))) for s in range(3)]
    one, _ = paired(pooled(runs), wins(0.5, seed=9))
    assert one.n_users == 20
