"""What the work must cost at least: FLOPs by formula, and the rates this machine reaches now.

The formula counts matrix products only (a multiply and an add are two) and counts each token of a
tree once: the prefix, each question, and of each answer all tokens but the last, which is predicted
and never read. A floor is that work at the best rate measured on the same machine minutes before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Tree = Sequence[tuple[int, Sequence[int]]]  # for each question: its length, the lengths of its answers


@dataclass(frozen=True)
class Geometry:
    """The sizes of a Llama-like model with gated feed-forward and a tied or untied head."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int

    @property
    def own_weights(self) -> int:
        """Weights of one layer that serve a token's own output: query, attention output, feed-forward."""
        return self.hidden * (2 * self.heads * self.head_dim + 3 * self.ffn)

    @property
    def layer_weights(self) -> int:
        """Weights of all layers' matrices (without embeddings, head and norms)."""
        keys_values = 2 * self.hidden * self.kv_heads * self.head_dim
        return self.layers * (self.own_weights + keys_values)

    @property
    def head_weights(self) -> int:
        """Weights of the LM head."""
        return self.hidden * self.vocab


def tokens_run(prefix: int, tree: Tree) -> int:
    """Tokens that go through the layers when each runs once."""
    return prefix + sum(question + sum(n - 1 for n in answers) for question, answers in tree)


def tokens_scored(tree: Tree) -> int:
    """Tokens whose log-probability is asked for: the rows that the LM head needs."""
    return sum(sum(answers) for _, answers in tree)


def attended(prefix: int, tree: Tree) -> int:
    """(query, key) pairs under the causal tree: a token sees the prefix, its question, its own answer."""
    pairs = _triangle(prefix)
    for question, answers in tree:
        pairs += question * prefix + _triangle(question)
        pairs += sum((n - 1) * (prefix + question) + _triangle(n - 1) for n in answers)
    return pairs


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def forward_flops(g: Geometry, prefix: int, tree: Tree) -> int:
    """The fewest FLOPs of a forward pass over the tree.

    Layers 2 x weights x tokens; attention 4 x heads x head_dim for each layer and (query, key) pair
    (scores and weighted sum); head 2 x hidden x vocab for each scored token. Of the prefix the last
    layer owes keys and values only.
    """
    layers = 2 * g.layer_weights * tokens_run(prefix, tree)
    attention = g.layers * attention_flops(g, attended(prefix, tree))
    return layers + attention + 2 * g.head_weights * tokens_scored(tree) - idle_flops(g, prefix)


def attention_flops(g: Geometry, pairs: int) -> int:
    """One layer's scores and weighted sums over this many (query, key) pairs."""
    return 4 * g.heads * g.head_dim * pairs


def idle_flops(g: Geometry, prefix: int) -> int:
    """What the last layer would spend on outputs of the prefix, which nothing reads."""
    return 2 * g.own_weights * prefix + attention_flops(g, _triangle(prefix))


def training_flops(g: Geometry, prefix: int, tree: Tree) -> int:
    """FLOPs of forward and backward with all weights trained: the backward costs twice the forward."""
    return 3 * forward_flops(g, prefix, tree)


def generation_floor(
    g: Geometry, prefix: int, questions: Sequence[int], new_tokens: int, rates: Rates, item_size: int
) -> float:
    """Seconds to read prefix and questions once and then to write `new_tokens` for all rows together.

    A decoding step is held by its products or by reading all weights once, whichever takes longer.
    """
    prefill = forward_flops(g, prefix, [(q, [1]) for q in questions]) / rates.flops
    weights = g.layer_weights + g.head_weights
    step = max(2 * weights * len(questions) / rates.flops, weights * item_size / rates.copy)
    return prefill + (new_tokens - 1) * step


@dataclass(frozen=True)
class Rates:
    """What the machine reached: FLOP/s for each product tried, and bytes/s of a large copy (read + write)."""

    gemm: dict[str, float]
    copy: float

    @property
    def flops(self) -> float:
        """The best rate of any product tried: a floor is never made easier by a slow shape."""
        return max(self.gemm.values())

    def text(self) -> str:
        products = ", ".join(f"{shape} {rate / 1e9:,.0f}" for shape, rate in self.gemm.items())
        return f"GFLOP/s: {products}; copy {self.copy / 1e9:.1f} GB/s"


def measure_rates(g: Geometry, prefix: int, tree: Tree, device: str, dtype: torch.dtype) -> Rates:
    """Time the products that the step is made of, a plain large one, and a copy."""
    import torch

    branches = max(1, tokens_run(prefix, tree) - prefix)
    shapes = {
        "prefix up": (prefix, g.hidden, g.ffn),
        "prefix down": (prefix, g.ffn, g.hidden),
        "branches up": (branches, g.hidden, g.ffn),
        "head": (tokens_scored(tree), g.hidden, g.vocab),
        "1024^3": (1024, 1024, 1024),
    }
    gemm = {}
    for name, (m, k, n) in shapes.items():
        a, b = (torch.randn(size, device=device, dtype=dtype) for size in ((m, k), (k, n)))
        out = torch.empty(m, n, device=device, dtype=dtype)
        gemm[name] = 2 * m * k * n / _best(partial(torch.mm, a, b, out=out), device)
    source = torch.ones(64 << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(gemm, 2 * source.numel() / _best(partial(target.copy_, source), device))


def _best(work: Callable[[], object], device: str, seconds: float = 0.3) -> float:
    """Shortest of the runs that fit in `seconds` (three at least)."""
    best, runs, until = float("inf"), 0, time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < until:
        best = min(best, _timed(work, device))
        runs += 1
    return best


def _timed(work: Callable[[], object], device: str) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    """Wait for a GPU's queue, so that the clock sees its work."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
