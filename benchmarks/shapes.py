"""The models and token ids that both sides run: random weights of a real geometry, ids by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import groupby

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.floors import Geometry
from fspo_bench.lm.shared_context import Branch
from fspo_bench.lm.train import Encoded

PAD, FIRST_ID = 0, 3
QUESTION = (12, 20)


@dataclass(frozen=True)
class Shape:
    """A model's geometry and the lengths it is measured at; answers vary by `spread` on both sides."""

    name: str
    geometry: Geometry
    context: int
    answer: int
    spread: float
    init: float = 0.02


SHAPES = {
    "smollm2": Shape("smollm2", Geometry(30, 576, 9, 3, 64, 1536, 49152), 640, 80, 0.2, 1 / 24),
    "4m": Shape("4m", Geometry(8, 192, 6, 2, 32, 512, 4096), 128, 36, 1 / 3),
    "tiny": Shape("tiny", Geometry(2, 32, 4, 2, 8, 64, 128), 24, 6, 0.5),  # to try the command
}


def made_model(shape: Shape, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """The same random weights each time it is called."""
    g = shape.geometry
    config = LlamaConfig(
        vocab_size=g.vocab, hidden_size=g.hidden, intermediate_size=g.ffn, num_hidden_layers=g.layers,
        num_attention_heads=g.heads, num_key_value_heads=g.kv_heads, head_dim=g.head_dim,
        max_position_embeddings=8192, tie_word_embeddings=True, initializer_range=shape.init,
        rms_norm_eps=1e-5, pad_token_id=PAD, eos_token_id=1, bos_token_id=None, attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(device=device, dtype=dtype).eval()


def made_episode(
    shape: Shape, pairs: int, context: int | None = None, answer: int | None = None, seed: int = 0
) -> Encoded:
    """One context and `pairs` questions, each with a chosen and a rejected answer of ragged lengths."""
    rng = random.Random(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(FIRST_ID, shape.geometry.vocab) for _ in range(n))

    middle = answer or shape.answer
    low, high = max(2, round(middle * (1 - shape.spread))), round(middle * (1 + shape.spread))
    prefix, branches = ids(context or shape.context), []
    for _ in range(pairs):
        question = ids(rng.randint(*QUESTION))
        branches += [Branch(question, ids(rng.randint(low, high))) for _ in range(2)]
    return Encoded(prefix, tuple(branches))


def made_reference(logprobs: list[float], seed: int = 0) -> list[float]:
    """Reference log-probs some nats off the policy's: at h = 0 a wrong h would hardly show in the loss.

    Numbers that fp32 holds exactly, since a side may keep them so.
    """
    rng = random.Random(seed)
    return [round((x + rng.uniform(-5, 5)) * 256) / 256 for x in logprobs]


def tree(episode: Encoded) -> list[tuple[int, list[int]]]:
    """The episode's lengths, as `benchmarks.floors` takes them."""
    groups = groupby(episode.branches, key=lambda b: b.given)
    return [(len(given), [len(b.scored) for b in answers]) for given, answers in groups]
