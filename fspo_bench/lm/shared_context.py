"""The shared-context step: one user's context is read once for all of its questions and answers.

A user's episode is a tree: one prefix (the shots), K questions, 2K answers. Every trainer at hand
reads the prefix 2K times and each question twice. Here every token of the tree runs once:

- the prefix runs alone and keeps its graph;
- the rest (each question, then its answers) is packed into one row without padding. Attention over
  [prefix, question, own answer] is computed as two parts: all packed queries against the prefix
  keys (full, no mask, no copy) and each branch against itself (causal); the parts are merged by
  their log-sum-exps, which is exactly the softmax over both.

Backward: branches run in chunks against *detached* prefix keys and values and pile up their gradient
there; one backward through the prefix ends the step. Memory is one prefix graph and one chunk,
whatever K is. Exact for softmax attention over the whole context (loss 1e-6, gradients 1e-5 relative
in fp32: tests/lm/test_shared_context.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from fspo_bench.lm.exactness import check_once, require_within_window
from fspo_bench.lm.onednn import onednn_linears
from fspo_bench.lm.soft_prefix import embedded

ATTENTION = "fspo_shared_context"
_NEVER = 1e4  # a log-sum-exp that makes a padded row's weights vanish


@dataclass(frozen=True)
class Branch:
    """Token ids that follow the prefix: `given` is read, `scored` is what log-probs are summed over."""

    given: tuple[int, ...]
    scored: tuple[int, ...]


@dataclass
class Prefix:
    """Keys and values of every layer, each (kv_heads, length, head_dim)."""

    keys: list[Tensor]
    values: list[Tensor]
    last: Tensor | None = None
    """What the last layer gives, which nothing behind a prefix reads: shape (1, length, hidden)."""

    @property
    def length(self) -> int:
        return self.keys[0].shape[1]

    def tensors(self) -> list[Tensor]:
        return self.keys + self.values

    def leaves(self) -> Prefix:
        """The same numbers cut from the graph, collecting gradients of their own."""
        keys, values = (
            [t.detach().requires_grad_(t.requires_grad) for t in ts] for ts in (self.keys, self.values)
        )
        return Prefix(keys, values)


@dataclass(frozen=True)
class Rows:
    """Prefixes of a decoding batch: each with the number of consecutive rows behind it."""

    prefixes: list[tuple[Prefix, int]]


@dataclass(frozen=True)
class _Packed:
    """Where the branches lie in the packed row of T tokens (a shared question stands there once)."""

    ids: Tensor  # (1, T)
    offsets: Tensor  # (1, T) position after the prefix
    index: Tensor  # (B, L) packed place of each branch's tokens; padding points at 0
    real: Tensor  # (B, L) false on padding
    owner: Tensor  # (T,) the place b * L + l at which a packed token's output is computed
    scored_at: Tensor  # (S,) packed places whose next token is scored
    targets: Tensor  # (S,)
    branch: Tensor  # (S,) the branch that a scored token belongs to


def _pack(branches: Sequence[Branch], device: torch.device) -> _Packed:
    ids: list[int] = []
    offsets: list[int] = []
    rows: list[list[int]] = []
    scored: list[tuple[int, int, int]] = []
    for given, group in groupby(branches, key=lambda b: b.given):
        start = len(ids)
        ids += given
        offsets += range(len(given))
        for branch in group:
            own = range(len(ids), len(ids) + len(branch.scored) - 1)
            ids += branch.scored[:-1]
            offsets += range(len(given), len(given) + len(own))
            row = [*range(start, start + len(given)), *own]
            scored += [(at, t, len(rows)) for at, t in zip(row[len(given) - 1 :], branch.scored, strict=True)]
            rows.append(row)
    width = max(map(len, rows))
    owner = [0] * len(ids)
    for b, row in enumerate(rows):
        for place, token in enumerate(row):
            owner[token] = b * width + place

    def tensor(x: Sequence[Any]) -> Tensor:
        return torch.tensor(x, device=device)

    scored_at, targets, branch_of = tensor(scored).T
    return _Packed(
        tensor([ids]), tensor([offsets]),
        tensor([row + [0] * (width - len(row)) for row in rows]),
        tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows]),
        tensor(owner), scored_at, targets, branch_of,
    )  # fmt: skip


class _MergedAttention(torch.autograd.Function):
    """Packed attention over [prefix, own branch] as two CPU flash calls merged by log-sum-exp.

    Shapes: query, own key and value (1, H, T, D); prefix key and value (G, P, D), H a multiple of G.
    Backward calls each flash backward with the *merged* output and log-sum-exp, which yields each
    part's share of the whole softmax's gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, prefix_key: Tensor, prefix_value: Tensor,
        packed: _Packed, scale: float,
    ) -> Tensor:  # fmt: skip
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        groups = prefix_key.shape[0]
        out_p, lse_p = flash(
            _fold(query, groups), prefix_key[None], prefix_value[None], 0.0, False, scale=scale
        )
        q, k, v = (_spread(x, packed) for x in (query, key, value))
        out_o, lse_o = flash(q, k, v, 0.0, True, scale=scale)
        out_p, lse_p = _unfold(out_p, query), _unfold(lse_p[..., None], query)
        out_o, lse_o = _gather(out_o, packed), _gather(lse_o[..., None], packed)
        lse = torch.logaddexp(lse_p, lse_o)
        out = (out_p * (lse_p - lse).exp() + out_o * (lse_o - lse).exp()).to(query.dtype)
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, out, lse)
        ctx.packed, ctx.scale = packed, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, prefix_key, prefix_value, out, lse = ctx.saved_tensors
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        packed, groups, scale = ctx.packed, prefix_key.shape[0], ctx.scale
        dq_p, dpk, dpv = flash(
            _fold(grad, groups), _fold(query, groups), prefix_key[None], prefix_value[None],
            _fold(out, groups), _fold(lse, groups)[..., 0], 0.0, False, scale=scale,
        )  # fmt: skip
        q, k, v, o = (_spread(x, packed) for x in (query, key, value, out))
        weightless = torch.where(packed.real[:, None], _spread(lse, packed)[..., 0], _NEVER)
        dq, dk, dv = flash(_scatter(grad, packed), q, k, v, o, weightless, 0.0, True, scale=scale)
        dq, dk, dv = (_collect(x, packed) for x in (dq, dk, dv))
        return dq + _unfold(dq_p, query), dk, dv, dpk[0], dpv[0], None, None


def _spread(x: Tensor, packed: _Packed) -> Tensor:
    """(1, H, T, D) -> (B, H, L, D): each branch its own row."""
    return x[0, :, packed.index].transpose(0, 1)


def _gather(x: Tensor, packed: _Packed) -> Tensor:
    """(B, H, L, D) -> (1, H, T, D): each packed token from the one row that computes it."""
    return x.permute(1, 0, 2, 3).flatten(1, 2)[None, :, packed.owner]


def _scatter(grad: Tensor, packed: _Packed) -> Tensor:
    """The adjoint of `_gather`: zero wherever a row holds a copy or padding."""
    b, n = packed.index.shape
    rows = grad.new_zeros(grad.shape[1], b * n, grad.shape[-1])
    rows[:, packed.owner] = grad[0]
    return rows.reshape(-1, b, n, grad.shape[-1]).transpose(0, 1).contiguous()


def _collect(x: Tensor, packed: _Packed) -> Tensor:
    """The adjoint of `_spread`: gradients of all copies of a token, summed."""
    h, d = x.shape[1], x.shape[-1]
    flat = x.transpose(0, 1).flatten(1, 2)
    keep = packed.real.flatten()
    return x.new_zeros(h, packed.owner.shape[0], d).index_add(1, packed.index.flatten()[keep], flat[:, keep])[
        None
    ]


def _fold(x: Tensor, groups: int) -> Tensor:
    """(B, H, L, D) -> (1, G, H/G * B * L, D): one long query per key-value head."""
    b, h, n, d = x.shape
    return x.reshape(b, groups, h // groups, n, d).permute(1, 2, 0, 3, 4).reshape(1, groups, -1, d)


def _unfold(x: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_fold`; the last dimension may differ from `like`'s."""
    b, h, n, _ = like.shape
    groups = x.shape[1]
    return x.reshape(groups, h // groups, b, n, -1).permute(2, 0, 1, 3, 4).reshape(b, h, n, -1)


def _plain(q: Tensor, k: Tensor, v: Tensor, pk: Tensor, pv: Tensor, unseen: Tensor, scale: float) -> Tensor:
    """The same sum in plain operations: for decoding, and where the CPU flash kernel is not.

    Shapes: q (B, H, n, D); k, v (B, G, m, D); pk, pv (G, P, D); unseen broadcasts to (B, H, n, m).
    """
    b, groups, m, d = k.shape
    q = q * scale
    scores_p = _unfold(_fold(q, groups) @ pk[None].transpose(-1, -2), q)
    scores_o = (q.reshape(b, groups, -1, d) @ k.transpose(-1, -2)).reshape(*q.shape[:3], m)
    scores = torch.cat([scores_p, scores_o.masked_fill(unseen, float("-inf"))], -1)
    weights = torch.softmax(scores.float(), -1).to(q.dtype)
    weights_p, weights_o = weights.split([pk.shape[1], m], -1)
    own: Tensor = (weights_o.reshape(b, groups, -1, m) @ v).reshape(q.shape)
    return own + _unfold(_fold(weights_p, groups) @ pv[None], q)


def _merged_flash(
    query: Tensor, key: Tensor, value: Tensor, pk: Tensor, pv: Tensor, packed: _Packed, scale: float
) -> Tensor:
    """Query (1, H, T, D), key and value (1, G, T, D): the flash kernel wants as many of these as queries."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    out: Tensor = _MergedAttention.apply(query, key, value, pk, pv, packed, scale)  # type: ignore[no-untyped-call]
    return out


def _merged_plain(
    query: Tensor, key: Tensor, value: Tensor, pk: Tensor, pv: Tensor, packed: _Packed, scale: float
) -> Tensor:
    """What `_merged_flash` computes, in plain operations."""
    q, k, v = (_spread(x, packed) for x in (query, key, value))
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
    return _gather(_plain(q, k, v, pk, pv, later, scale), packed)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    shared_prefix: Prefix | Rows | None = None,
    packed: _Packed | None = None,
    own_unseen: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer while branches run (see `branches_attend`)."""
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if isinstance(shared_prefix, Rows):
        assert own_unseen is not None, "decoding says what each row does not see of itself"
        sizes = [rows for _, rows in shared_prefix.prefixes]
        parts = zip(
            shared_prefix.prefixes, *(x.split(sizes) for x in (query, key, value, own_unseen)), strict=True
        )
        out = torch.cat(
            [
                _plain(q, k, v, p.keys[layer], p.values[layer], hidden, scale)
                for (p, _), q, k, v, hidden in parts
            ]
        )
    else:
        assert shared_prefix is not None and packed is not None, "only branch passes use this attention"
        merged = _merged_flash if query.device.type == "cpu" else _merged_plain
        out = merged(query, key, value, shared_prefix.keys[layer], shared_prefix.values[layer], packed, scale)
    return out.transpose(1, 2), None


AttentionInterface.register(ATTENTION, _attention)


class branches_attend:
    """While entered, the model's layers use the merged attention; the old choice comes back after."""

    def __init__(self, lm: PreTrainedModel) -> None:
        self.config = lm.config

    def __enter__(self) -> None:
        self.before = self.config._attn_implementation
        self.config._attn_implementation = ATTENTION

    def __exit__(self, *_: object) -> None:
        self.config._attn_implementation = self.before


def causal_lm(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model inside a peft or accelerate wrapper (adapters stay in place)."""
    inner: Any = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def read_prefix(model: torch.nn.Module, ids: tuple[int, ...], latent: tuple[float, ...] = ()) -> Prefix:
    """Run the shared context once. Its keys and values keep their graph when gradients are on.

    A `latent` vector stands before the tokens, as the soft tokens that the model makes of it.

    Raises:
        UserError: the model's attention is of a kind for which sharing is not exact.
    """
    lm = causal_lm(model)
    check_once(model, lm)
    if latent:
        read = {"inputs_embeds": embedded(lm, ids, latent)}
    else:
        read = {"input_ids": torch.tensor([ids], device=lm.get_input_embeddings().weight.device)}
    with onednn_linears(lm):
        out = lm.get_decoder()(**read, use_cache=True)
    layers = out.past_key_values.layers
    keys, values = [layer.keys[0] for layer in layers], [layer.values[0] for layer in layers]
    return Prefix(keys, values, out.last_hidden_state)


def score_branches(model: torch.nn.Module, prefix: Prefix, branches: Sequence[Branch]) -> Tensor:
    """Summed log-probability of each branch's scored tokens given prefix and `given`: shape (B,).

    Summed in fp64: hundreds of nats in fp32 would be off by 1e-4, and losses read their small differences.
    """
    lm = causal_lm(model)
    packed = _pack(branches, prefix.keys[0].device)
    require_within_window(lm, prefix.length + packed.index.shape[1])
    with branches_attend(lm), onednn_linears(lm):
        hidden = lm.get_decoder()(
            input_ids=packed.ids,
            position_ids=prefix.length + packed.offsets,
            use_cache=False,
            shared_prefix=prefix,
            packed=packed,
        ).last_hidden_state[0]
        logits = lm.get_output_embeddings()(hidden[packed.scored_at]).float()
    logprobs = -torch.nn.functional.cross_entropy(logits, packed.targets, reduction="none")
    sums = torch.zeros(len(branches), dtype=torch.float64, device=logprobs.device)
    return sums.index_add(0, packed.branch, logprobs.double())


def backward_through_context(
    model: torch.nn.Module,
    prefix_ids: tuple[int, ...],
    branches: Sequence[Branch],
    loss: Callable[[Tensor, slice], Tensor],
    chunk: int,
    latent: tuple[float, ...] = (),
    calls: int | None = None,
) -> tuple[float, Tensor]:
    """One exact training step's forward and backward for one episode.

    Args:
        model: a causal LM, possibly wrapped by peft or accelerate.
        prefix_ids: the shared context.
        branches: the rows to score; rows that one loss term needs must stand within one chunk.
        loss: maps a chunk's summed log-probs (n,) and its place to that chunk's share of the loss.
        chunk: rows in memory at a time.
        latent: the context's latent vector, if it has one.
        calls: for a model whose layers are spread over processes (`fspo_bench.lm.sharded`), how many chunks
            all of them run at this turn; what this context lacks runs again without a loss.

    Returns:
        The loss (sum over chunks) and all summed log-probs, detached, shape (len(branches),).
    """
    prefix = read_prefix(model, prefix_ids, latent)
    leaves = prefix.leaves()
    total, logprobs = 0.0, []
    for place in _chunks(len(branches), chunk):
        scored = score_branches(model, leaves, branches[place])
        share = loss(scored, place)
        share.backward()
        total += float(share.detach())
        logprobs.append(scored.detach())
    for _ in range(len(logprobs), calls or 0):
        (score_branches(model, leaves, branches[:chunk]).sum() * 0).backward()
    pairs = zip(prefix.tensors(), leaves.tensors(), strict=True)
    reached = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
    if calls is not None and prefix.last is not None:  # a spread layer is gathered when its output is reached
        reached.append((prefix.last, torch.zeros_like(prefix.last)))
    if reached:
        torch.autograd.backward([t for t, _ in reached], [g for _, g in reached])
    return total, torch.cat(logprobs)


@torch.no_grad()
def score(
    model: torch.nn.Module, prefix_ids: tuple[int, ...], branches: Sequence[Branch], chunk: int,
    latent: tuple[float, ...] = (),
) -> list[float]:  # fmt: skip
    """Summed log-probs of all branches behind one context, without gradients."""
    prefix = read_prefix(model, prefix_ids, latent)
    parts = [score_branches(model, prefix, branches[place]) for place in _chunks(len(branches), chunk)]
    return [float(x) for x in torch.cat(parts)]


def _chunks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
