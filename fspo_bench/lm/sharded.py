"""Training all weights of a model that one device cannot hold with its optimiser: FSDP2, layer by layer.

Each decoder layer's weights, gradients and optimiser state are spread over the processes; embeddings, head
and norms, which the shared-context step calls by themselves, stay whole. Every forward and backward of a
layer gathers it from all processes, so all of them must make the same calls (`aligned`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fspo_bench import team
from fspo_bench.lm.shared_context import causal_lm


def wanted() -> bool:
    """Whether the launcher asks for it (`accelerate launch --use_fsdp`)."""
    return team.size() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def shard(model: torch.nn.Module) -> None:
    """Spread the decoder layers over the processes, in place and for good."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    lm = causal_lm(model)
    mesh = init_device_mesh(lm.get_input_embeddings().weight.device.type, (team.size(),))
    for layer in lm.get_decoder().layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


def _is_spread(tensor: Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def groups(parameters: Iterable[torch.nn.Parameter]) -> list[dict[str, Any]]:
    """For the optimiser: what is spread and what is whole, which no single kernel takes together."""
    every = list(parameters)
    parts = [[p for p in every if _is_spread(p) == spread] for spread in (True, False)]
    return [{"params": part} for part in parts if part]


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whole, in the memory of the first process; nothing elsewhere, but every process must call."""
    found = {}
    for name, tensor in tensors.items():
        full: Tensor = tensor.full_tensor() if _is_spread(tensor) else tensor  # type: ignore[attr-defined]
        if team.leads():
            found[name] = full.detach().cpu().clone()
    return found


def spread_as(full: Tensor, like: Tensor) -> Tensor:
    """A tensor spread as another is."""
    if not _is_spread(like):
        return full.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    placed: Tensor = distribute_tensor(
        full.to(like.device),
        like.device_mesh,  # type: ignore[attr-defined]
        like.placements,  # type: ignore[attr-defined]
    )
    return placed


def clip_grad_norm(parts: Sequence[dict[str, Any]], most: float) -> None:
    """torch's `clip_grad_norm_` over what `groups` gave: one norm of all of it."""
    norms = [torch.nn.utils.get_total_norm([p.grad for p in part["params"]]) for part in parts]
    total = torch.stack([n.full_tensor() if _is_spread(n) else n for n in norms]).norm()  # type: ignore[attr-defined]
    for part in parts:
        torch.nn.utils.clip_grads_with_norm_(part["params"], most, total)


@dataclass(frozen=True)
class Turn:
    """What a process does while the others work on their contexts of the same turn."""

    place: int
    """Of the context; some other process's where this one has none left."""
    idle: bool
    calls: int
    """Chunks of answers that every process runs, those without a loss included."""


def aligned(batch: Sequence[int], chunks: Sequence[int]) -> list[Turn]:
    """A step's turns of this process: as many, and of as many calls, as every other's.

    Args:
        batch: places of the step's contexts.
        chunks: by place, how many chunks of answers the context has.
    """
    turns = []
    for first in range(0, len(batch), team.size()):
        together = batch[first : first + team.size()]
        mine = team.share(together)
        calls = max(chunks[n] for n in together)
        turns.append(Turn(mine[0] if mine else together[0], not mine, calls))
    return turns
