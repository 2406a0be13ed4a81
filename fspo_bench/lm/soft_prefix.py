"""Latent vectors as soft tokens: what stands before the prompt's own tokens in a latent-conditioned policy.

A linear map takes a user's latent vector to a few vectors of the width of token embeddings. It is a
part of the model (`model.soft_prefix`), so that training, checkpoints and the optimiser treat it as
any other trainable weight.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

FILE = "soft_prefix.safetensors"


class SoftPrefix(torch.nn.Module):
    """(width,) -> (tokens, hidden), at first as small as token embeddings are."""

    def __init__(self, width: int, tokens: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.tokens = tokens
        self.to_tokens = torch.nn.Linear(width, tokens * hidden)
        torch.nn.init.normal_(self.to_tokens.weight, std=scale / width**0.5)
        torch.nn.init.normal_(self.to_tokens.bias, std=scale)

    def forward(self, latent: Tensor) -> Tensor:
        """The soft tokens of one latent vector."""
        vectors: Tensor = self.to_tokens(latent)
        return vectors.view(self.tokens, -1)


def attach(lm: PreTrainedModel, width: int, tokens: int, seed: int) -> None:
    """Give a model a soft prefix of its own (the same one for the same seed)."""
    embedding = lm.get_input_embeddings().weight
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = SoftPrefix(width, tokens, embedding.shape[1], float(embedding.detach().std()))
    lm.soft_prefix = module.to(embedding.device)  # fp32 whatever the model's is: steps are small


def embedded(lm: PreTrainedModel, ids: tuple[int, ...], latent: tuple[float, ...]) -> Tensor:
    """Soft tokens, then the tokens' own embeddings: shape (1, soft + len(ids), hidden)."""
    table = lm.get_input_embeddings()
    device, dtype = table.weight.device, table.weight.dtype
    soft = lm.soft_prefix(torch.tensor(latent, device=device)).to(dtype)
    return torch.cat([soft, table(torch.tensor(ids, device=device))])[None]


def save(lm: PreTrainedModel, folder: Path) -> None:
    """Beside the adapter, where there is one."""
    from safetensors.torch import save_file

    save_file({k: v.detach().contiguous() for k, v in lm.soft_prefix.state_dict().items()}, folder / FILE)


def load(lm: PreTrainedModel, folder: Path) -> None:
    """What `save` wrote."""
    from safetensors.torch import load_file

    lm.soft_prefix.load_state_dict(load_file(folder / FILE))
