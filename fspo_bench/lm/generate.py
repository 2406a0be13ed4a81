"""Generation behind shared prefixes: a context is read once for all of its questions.

Several users' questions decode together, each row behind its own user's prefix. Rows are padded on
the right only and padding is hidden from every later query, so the tokens are those of plain
one-by-one decoding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from fspo_bench.lm.exactness import require_within_window
from fspo_bench.lm.onednn import onednn_linears
from fspo_bench.lm.shared_context import Rows, branches_attend, causal_lm, read_prefix

Choose = Callable[[Tensor], Tensor]  # logits (rows, vocabulary) -> token ids (rows,)
NUCLEUS = 128  # tokens among which a nucleus is looked for: no sort of the whole vocabulary


@dataclass(frozen=True)
class Asked:
    """One context and the questions behind it, as token ids."""

    prefix: tuple[int, ...]
    questions: tuple[tuple[int, ...], ...]
    latent: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """Draw tokens instead of taking the likeliest: from the nucleus of `top_p` at a temperature.

    `seeds` has one number for each question in turn. A row draws from its own stream, so what is
    sampled does not depend on what else decodes beside it.
    """

    temperature: float
    top_p: float
    seeds: tuple[int, ...]


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    asked: Sequence[Asked],
    end: int,
    max_new_tokens: int,
    no_repeat: int = 0,
    choose: Choose | None = None,
) -> list[list[int]]:
    """New token ids for every question of every context in turn, without the end token.

    Greedy unless `choose` says otherwise (see `sampler`). With `no_repeat` = n > 0 no answer holds the same
    n tokens in a row twice (small models loop).
    """
    lm = causal_lm(model)
    with onednn_linears(lm, decoding=True):
        prefixes = Rows([(read_prefix(model, a.prefix, a.latent), len(a.questions)) for a in asked])
        with branches_attend(lm):
            return _decode(lm, prefixes, asked, end, max_new_tokens, no_repeat, choose or likeliest)


def likeliest(logits: Tensor) -> Tensor:
    """The token of the highest logit in each row."""
    return logits.argmax(-1)


def sampler(sampling: Sampling) -> Choose:
    """Draws as `sampling` says."""
    streams = [torch.Generator().manual_seed(seed) for seed in sampling.seeds]

    def choose(logits: Tensor) -> Tensor:
        top, ids = (logits.float() / sampling.temperature).topk(min(NUCLEUS, logits.shape[-1]))
        p = torch.softmax(top, -1)
        p = p * (p.cumsum(-1) - p < sampling.top_p)
        noise = torch.stack([torch.empty(p.shape[-1]).exponential_(generator=s) for s in streams])
        return ids.gather(-1, (p / noise.to(p.device)).argmax(-1, keepdim=True))[:, 0]

    return choose


def _decode(
    lm: PreTrainedModel, prefixes: Rows, asked: Sequence[Asked], end: int, max_new_tokens: int,
    no_repeat: int, choose: Choose,
) -> list[list[int]]:  # fmt: skip
    decoder, head = lm.get_decoder(), lm.get_output_embeddings()
    questions = [q for a in asked for q in a.questions]
    device = lm.get_input_embeddings().weight.device
    starts = torch.tensor([p.length for p, rows in prefixes.prefixes for _ in range(rows)], device=device)
    lengths = torch.tensor([len(q) for q in questions], device=device)
    width = int(lengths.max())
    require_within_window(lm, int((starts + lengths).max()) + max_new_tokens)
    ids = torch.tensor([q + (end,) * (width - len(q)) for q in questions], device=device)
    positions = starts[:, None] + torch.arange(width, device=device)
    visible = torch.arange(width, device=device) < lengths[:, None]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    unseen = ~causal.expand(len(questions), 1, -1, -1)
    own = DynamicCache()
    last = lengths - 1
    written: list[list[int]] = [[] for _ in questions]
    unfinished = set(range(len(questions)))
    for step in range(max_new_tokens):
        hidden = decoder(
            input_ids=ids, position_ids=positions, past_key_values=own, use_cache=True,
            shared_prefix=prefixes, own_unseen=unseen,
        ).last_hidden_state  # fmt: skip
        logits = head(hidden[torch.arange(len(questions), device=device), last])
        for row in unfinished if no_repeat else ():
            logits[row, _would_repeat(written[row], no_repeat)] = float("-inf")
        token = choose(logits)
        for row in list(unfinished):
            if int(token[row]) == end:
                unfinished.remove(row)
            else:
                written[row].append(int(token[row]))
        if not unfinished:
            break
        visible = torch.cat([visible, torch.ones_like(visible[:, :1])], 1)
        ids, unseen, last = token[:, None], ~visible[:, None, None, :], torch.zeros_like(last)
        positions = (starts + lengths + step)[:, None]
    return written


def _would_repeat(ids: Sequence[int], n: int) -> list[int]:
    """Tokens that would complete an n-gram that `ids` already holds."""
    tail = tuple(ids[len(ids) - n + 1 :]) if n > 1 else ()
    return [ids[k + n - 1] for k in range(len(ids) - n + 1) if tuple(ids[k : k + n - 1]) == tail]


def first_answer(text: str) -> str:
    """The text under the first heading or before it: a model may go on with examples of its own."""
    parts = [part.strip() for part in re.split(r"(?m)^\s*#+ .*$", text)]
    return next((part for part in parts if part), "")


def whole_sentences(text: str) -> str:
    """Drop a last sentence that the token limit cut off, if at least one whole one stands before it."""
    ends = list(re.finditer(r"[.!?][\"')\]]*(?=\s|$)", text))
    return text[: ends[-1].end()] if ends else text
