"""Greedy generation behind a shared prefix: the context is read once for all of a user's questions.

Rows are padded on the right only; padding is hidden from every later query, so the tokens are those
of plain one-by-one decoding.
"""

from __future__ import annotations

import re

import torch
from transformers import DynamicCache

from fspo_bench.shared_context import branches_attend, causal_lm, read_prefix


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    prefix_ids: tuple[int, ...],
    questions: list[tuple[int, ...]],
    end: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """New token ids for each question behind the prefix, without the end token."""
    lm = causal_lm(model)
    decoder, head = lm.get_decoder(), lm.get_output_embeddings()
    prefix = read_prefix(model, prefix_ids)
    device = prefix.keys[0].device
    lengths = torch.tensor([len(q) for q in questions], device=device)
    width = int(lengths.max())
    ids = torch.tensor([q + (end,) * (width - len(q)) for q in questions], device=device)
    positions = prefix.length + torch.arange(width, device=device).expand(len(questions), -1)
    visible = torch.arange(width, device=device) < lengths[:, None]
    own = DynamicCache()
    written: list[list[int]] = [[] for _ in questions]
    open_rows = set(range(len(questions)))
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    with branches_attend(lm):
        hidden = decoder(
            input_ids=ids,
            position_ids=positions,
            past_key_values=own,
            use_cache=True,
            shared_prefix=prefix,
            own_seen=causal,
        ).last_hidden_state
        token = head(hidden[torch.arange(len(questions)), lengths - 1]).argmax(-1)
        for step in range(max_new_tokens):
            for row in list(open_rows):
                if int(token[row]) == end:
                    open_rows.remove(row)
                else:
                    written[row].append(int(token[row]))
            if not open_rows or step == max_new_tokens - 1:
                break
            visible = torch.cat([visible, torch.ones_like(visible[:, :1])], 1)
            hidden = decoder(
                input_ids=token[:, None],
                position_ids=(prefix.length + lengths + step)[:, None],
                past_key_values=own,
                use_cache=True,
                shared_prefix=prefix,
                own_seen=visible[:, None, None, :],
            ).last_hidden_state
            token = head(hidden[:, -1]).argmax(-1)
    return written


def whole_sentences(text: str) -> str:
    """Drop a last sentence that the token limit cut off, if at least one whole one stands before it."""
    ends = list(re.finditer(r"[.!?][\"')\]]*(?=\s|$)", text))
    return text[: ends[-1].end()] if ends else text
