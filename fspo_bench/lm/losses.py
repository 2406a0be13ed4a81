"""The losses, on summed log-probabilities (sums over response tokens, as in the paper's code).

h = [log pi(y_w|z) - log pi_ref(y_w|z)] - [log pi(y_l|z) - log pi_ref(y_l|z)], shape (pairs,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def log_ratio_margin(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor) -> Tensor:
    """h of FSPO's eq. 4 and 6."""
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def ipo(h: Tensor, beta: float) -> Tensor:
    """(h - 1/(2 beta))^2 (Azar et al. 2023, arXiv 2310.12036, eq. 17; FSPO eq. 6), per pair."""
    return (h - 1 / (2 * beta)) ** 2


def dpo(h: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta h) (Rafailov et al. 2023, arXiv 2305.18290, eq. 7), per pair."""
    import torch.nn.functional as F

    return -F.logsigmoid(beta * h)


PREFERENCE_LOSSES = {"ipo": ipo, "dpo": dpo}
