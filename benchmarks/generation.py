"""Rows on greedy generation: eight questions behind one context, against transformers' own `generate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import LlamaForCausalLM

from benchmarks.floors import generation_floor
from benchmarks.measure import alternate, seconds_of
from benchmarks.report import Row, aborted, timed
from benchmarks.shapes import FIRST_ID, PAD
from benchmarks.sides import Settings
from fspo_bench.lm.generate import Asked, generate

QUESTIONS, NEW_TOKENS = 8, 64


def rows(settings: Settings) -> list[Row]:
    """Seconds for all answers; equal token ids are demanded first.

    Always in fp32: rounded to 16 bits, no two ways of batching write the same ids.
    """
    settings = replace(settings, dtype=torch.float32)
    name = f"generation, {settings.shape.name}, {QUESTIONS} questions, {NEW_TOKENS} new tokens"
    model, asked = settings.model(), asked_by(settings)
    end = unwritten(model, asked)

    def ours() -> list[list[int]]:
        return generate(model, [asked], end, NEW_TOKENS)

    expected = ours()
    settings_of_theirs: dict[str, Callable[[], list[list[int]]]] = {
        "one by one": lambda: [row for q in asked.questions for row in plain(model, asked.prefix, [q], end)],
        "batch padded on the left": lambda: plain(model, asked.prefix, list(asked.questions), end),
    }
    equal = {kind: work for kind, work in settings_of_theirs.items() if work() == expected}
    remarks = [f"{kind}: other token ids, not compared" for kind in settings_of_theirs if kind not in equal]
    if not equal:
        return [aborted(name, "token ids differ from those of transformers generate")]
    kind = min(equal, key=lambda k: seconds_of(equal[k], settings.device))
    episode = settings.episode(QUESTIONS)
    before = settings.rates(episode)
    turns = alternate(ours, equal[kind], settings.rounds, settings.device)
    after = settings.rates(episode)
    floor = generation_floor(
        settings.shape.geometry, len(asked.prefix), [len(q) for q in asked.questions], NEW_TOKENS,
        max(before, after, key=lambda r: r.flops), settings.dtype.itemsize,
    )  # fmt: skip
    remarks.append(f"equal ids; theirs {kind}")
    details = [f"before {before.text()}", f"after {after.text()}"]
    threads = torch.get_num_threads() if settings.device == "cpu" else None
    new = QUESTIONS * NEW_TOKENS
    return [timed(name, "transformers generate", turns, new, "tokens/s", threads, floor, remarks, details)]


def asked_by(settings: Settings) -> Asked:
    """The questions of the episode that the other rows use, behind its context."""
    episode = settings.episode(QUESTIONS)
    return Asked(episode.prefix, tuple(b.given for b in episode.branches[0::2]))


def unwritten(model: LlamaForCausalLM, asked: Asked) -> int:
    """An end token that no row writes, so that every row writes all its tokens on both sides."""
    tries = range(FIRST_ID, FIRST_ID + 64)
    return next(
        end for end in tries if all(len(r) == NEW_TOKENS for r in generate(model, [asked], end, NEW_TOKENS))
    )


def plain(
    model: LlamaForCausalLM, prefix: tuple[int, ...], questions: list[tuple[int, ...]], end: int
) -> list[list[int]]:
    """What transformers writes for full prompts, padded on the left to one width."""
    prompts = [prefix + q for q in questions]
    width = max(map(len, prompts))
    ids = torch.tensor([(PAD,) * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=PAD,
    )
    return [row[width:] for row in out.tolist()]
