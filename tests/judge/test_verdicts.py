"""Verdicts of one order and of two: half credit, consistency, what needs no judge."""

import pytest

from fspo_bench.judge.verdicts import Verdict, half, settled


@pytest.mark.parametrize(
    ("orders", "p", "win", "consistent"),
    [
        ((0.8,), 0.8, 1.0, True),
        ((0.9, 0.8), 0.85, 1.0, True),
        ((0.9, 0.2), 0.55, 0.5, False),
        ((0.9, 0.5), 0.7, 0.75, False),
        ((0.9, None), None, None, None),
        ((), None, None, None),
    ],
)
def test_orders_make_one_verdict(
    orders: tuple[float | None, ...], p: float | None, win: float | None, consistent: bool | None
) -> None:
    verdict = Verdict(orders)
    assert verdict.p == pytest.approx(p)
    assert (verdict.win, verdict.consistent) == (win, consistent)


@pytest.mark.parametrize(("difference", "value"), [(0.2, 1.0), (-0.2, 0.0), (0.0, 0.5)])
def test_half(difference: float, value: float) -> None:
    assert half(difference) == value


def test_equal_and_empty_answers_need_no_judge() -> None:
    found = [settled("a", "a"), settled("", "a"), settled("a", ""), settled("", "")]
    assert [v.win for v in found if v] == [0.5, 0.0, 1.0, 0.5]
    assert settled("a", "b") is None
