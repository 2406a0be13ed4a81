"""Is the shared-context step exact for this model? Refuse what cannot be, try what should be.

It needs softmax attention over the whole context and positions that do not depend on the row's
length. Other kinds are told from the configuration; the first time a model is used a small tree is
scored both ways, so that one whose attention does something of its own (soft caps, sinks) is refused
rather than trained wrongly.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from transformers import PreTrainedModel

from fspo_bench.errors import UserError

TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of a row's log-prob
_PREFIX = 9
_TREE = (((2, 3), (4, 5, 6)), ((2, 3), (7, 8)), ((9,), (10, 11, 12, 13)))  # (question, answer) ids
_checked: WeakSet[PreTrainedModel] = WeakSet()


def window(lm: PreTrainedModel) -> int | None:
    """How far back every layer sees; None when all of them see everything.

    Raises:
        UserError: layers or positions for which a shared prefix cannot be exact.
    """
    config: Any = lm.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or [])
    if unknown := layers - {"full_attention", "sliding_attention"}:
        raise _refused(lm, f"layers of kind '{min(unknown)}' do not keep the whole context")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        raise _refused(lm, f"'{rope['rope_type']}' positions change with the row's length")
    if layers == {"full_attention"} or not getattr(config, "use_sliding_window", True):
        return None
    size = getattr(config, "sliding_window", None)
    return int(size) if size else None


def require_within_window(lm: PreTrainedModel, length: int) -> None:
    """Refuse a row of `length` tokens that a sliding window would cut.

    Raises:
        UserError: it does not fit.
    """
    size = window(lm)
    if size is not None and length > size:
        raise UserError(
            f"model {lm.config.model_type}: {length} tokens do not fit its sliding window of {size}; "
            "use fewer shots (--set shots=N) or a model with full attention"
        )


def check_once(model: torch.nn.Module, lm: PreTrainedModel) -> None:
    """Score a small tree by the shared-context step and plainly, once for each loaded model.

    Raises:
        UserError: the two differ.
    """
    if lm in _checked:
        return
    window(lm)
    _checked.add(lm)
    worst = _difference(model, lm)
    if not worst <= TOLERANCE[lm.dtype]:
        _checked.discard(lm)
        raise _refused(lm, f"its attention is computed in a way of its own (log-probs differ by {worst:.1g})")


def _refused(lm: PreTrainedModel, why: str) -> UserError:
    return UserError(
        f"model {lm.config.model_type}: {why}, so users' shots cannot be shared exactly; "
        "use a model with plain full attention"
    )


@torch.no_grad()
def _difference(model: torch.nn.Module, lm: PreTrainedModel) -> float:
    """Largest difference of a row's log-probability, relative to its size where that exceeds 1."""
    from fspo_bench.lm.shared_context import Branch, score

    prefix = tuple(range(3, 3 + _PREFIX))
    branches = [Branch(given, scored) for given, scored in _TREE]
    worst = 0.0
    for branch, shared in zip(branches, score(model, prefix, branches, len(branches)), strict=True):
        ids = torch.tensor([prefix + branch.given + branch.scored], device=lm.device)
        logprobs = lm(input_ids=ids).logits[0].float().log_softmax(-1)
        first = len(prefix) + len(branch.given)
        plain = sum(float(logprobs[first + n - 1, t]) for n, t in enumerate(branch.scored))
        worst = max(worst, abs(plain - shared) / max(1.0, abs(plain)))
    return worst
