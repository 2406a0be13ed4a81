"""The losses on numbers worked out by hand."""

import math

import pytest
import torch

from fspo_bench.lm.losses import PREFERENCE_LOSSES, dpo, ipo, log_ratio_margin


def one(value: float, grad: bool = False) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64, requires_grad=grad)


def test_the_margin_by_hand() -> None:
    """(-1 - -2) - (-3 - -2.5) = 1.5: each side against its own reference."""
    assert log_ratio_margin(one(-1), one(-3), one(-2), one(-2.5)).item() == 1.5


def test_the_margin_is_zero_at_the_reference_and_odd_in_the_labels() -> None:
    won, lost, ref_won, ref_lost = one(-1.25), one(-3), one(-2), one(-2.5)
    assert log_ratio_margin(ref_won, ref_lost, ref_won, ref_lost).item() == 0
    margin = log_ratio_margin(won, lost, ref_won, ref_lost)
    assert margin.item() == -log_ratio_margin(lost, won, ref_lost, ref_won).item() == 1.25


@pytest.mark.parametrize(
    ("h", "beta", "loss"), [(1.5, 0.1, 12.25), (0, 0.1, 25), (5, 0.1, 0), (6, 0.1, 1), (-1, 0.5, 4)]
)
def test_ipo_by_hand(h: float, beta: float, loss: float) -> None:
    assert ipo(one(h), beta).item() == pytest.approx(loss)


@pytest.mark.parametrize(
    ("h", "beta", "loss"),
    [(0, 0.1, math.log(2)), (10, 0.1, math.log1p(math.exp(-1))), (-4, 0.5, math.log1p(math.e**2))],
)
def test_dpo_by_hand(h: float, beta: float, loss: float) -> None:
    assert dpo(one(h), beta).item() == pytest.approx(loss)


def test_the_gradient_of_ipo_is_a_spring_about_its_target() -> None:
    for h, slope in [(0.0, -10.0), (5.0, 0.0), (7.0, 4.0)]:  # 2 (h - 1/(2 beta)), beta = 0.1
        x = one(h, grad=True)
        ipo(x, 0.1).sum().backward()
        assert x.grad is not None
        assert x.grad.item() == pytest.approx(slope)


def test_the_gradient_of_dpo_is_minus_beta_sigmoid() -> None:
    x = one(3.0, grad=True)
    dpo(x, 0.2).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(-0.2 / (1 + math.exp(0.6)))


def test_dpo_stays_finite_far_from_zero() -> None:
    assert dpo(one(-1e5), 0.1).item() == pytest.approx(1e4)
    assert dpo(one(1e5), 0.1).item() == 0


@pytest.mark.parametrize("name", sorted(PREFERENCE_LOSSES))
def test_a_loss_is_one_number_a_pair(name: str) -> None:
    h = torch.tensor([-1.0, 0.0, 2.0])
    losses = PREFERENCE_LOSSES[name](h, 0.1)
    assert [x.item() for x in losses] == [PREFERENCE_LOSSES[name](x[None], 0.1).item() for x in h]
    assert losses[0] > losses[1] > losses[2]
