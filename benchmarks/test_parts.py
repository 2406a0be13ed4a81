"""Seconds of the step's parts (`make bench`): for finding what became slow, not for claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from benchmarks.shapes import FIRST_ID, SHAPES, made_episode, made_model
from fspo_bench.lm.generate import Asked, generate
from fspo_bench.lm.shared_context import (
    _pack,
    backward_through_context,
    read_prefix,
    score,
    score_branches,
)
from fspo_bench.lm.train import Encoded

pytest.importorskip("pytest_benchmark")
PAIRS = 4
Benchmark = Callable[..., Any]


@pytest.fixture(scope="module", params=["tiny", "4m"])
def made(request: pytest.FixtureRequest) -> tuple[LlamaForCausalLM, Encoded]:
    """A model past its first use (which checks it) and an episode."""
    shape = SHAPES[request.param]
    model, episode = made_model(shape), made_episode(shape, PAIRS)
    score(model, episode.prefix, episode.branches, len(episode.branches))
    return model, episode


def test_read_prefix(benchmark: Benchmark, made: tuple[LlamaForCausalLM, Encoded]) -> None:
    """The context through the model, its graph kept."""
    model, episode = made
    benchmark(read_prefix, model, episode.prefix)


def test_score_branches(benchmark: Benchmark, made: tuple[LlamaForCausalLM, Encoded]) -> None:
    """Questions and answers behind a prefix that is there, without gradients."""
    model, episode = made
    with torch.no_grad():
        prefix = read_prefix(model, episode.prefix)
        benchmark(score_branches, model, prefix, episode.branches)


def test_backward(benchmark: Benchmark, made: tuple[LlamaForCausalLM, Encoded]) -> None:
    """The backward of the branches down to the prefix's detached keys and values."""
    model, episode = made
    leaves = read_prefix(model, episode.prefix).leaves()

    def forward() -> tuple[tuple[torch.Tensor], dict[str, Any]]:
        model.zero_grad()
        return (score_branches(model, leaves, episode.branches).sum(),), {}

    benchmark.pedantic(torch.Tensor.backward, setup=forward, rounds=20)  # type: ignore[attr-defined]
    model.zero_grad()


def test_whole_step(benchmark: Benchmark, made: tuple[LlamaForCausalLM, Encoded]) -> None:
    """Forward and backward over the whole tree, one pair at a time."""
    model, episode = made
    benchmark(
        backward_through_context, model, episode.prefix, episode.branches, lambda scored, _: scored.sum(), 2
    )
    model.zero_grad()


@pytest.mark.parametrize("steps", [1, 17])
def test_decode(benchmark: Benchmark, made: tuple[LlamaForCausalLM, Encoded], steps: int) -> None:
    """Reading all and writing one token; the difference to 17 is that of 16 decoding steps."""
    model, episode = made
    asked = Asked(episode.prefix, tuple(b.given for b in episode.branches[0::2]))
    tries = range(FIRST_ID, FIRST_ID + 64)
    end = next(e for e in tries if all(len(row) == 17 for row in generate(model, [asked], e, 17)))
    benchmark(generate, model, [asked], end, steps)


def test_pack(benchmark: Benchmark, made: tuple[LlamaForCausalLM, Encoded]) -> None:
    """Laying the branches out in one row."""
    benchmark(_pack, made[1].branches, torch.device("cpu"))
