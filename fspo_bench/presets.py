"""Presets: named budgets. `--set key=value` changes any of these numbers for one run."""

from __future__ import annotations

from dataclasses import dataclass

from fspo_bench.errors import UserError, did_you_mean

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Preset:
    """How much is trained and tested, and with what step sizes."""

    name: str
    model: str = "smollm2-135m"
    source: str = ""
    """Where tasks' texts come from unless `--source` says so; empty for each task's own way."""
    shots: int = 4
    """Preferences of the user in the context."""
    show_rejected: bool = False
    """Show both sides of a shot as worked examples, as the paper does, or the preferred answer alone as
    an earlier turn of the chat. The turns cost half the tokens, and a 135M chat model answers behind
    them, where behind worked examples it goes on writing examples."""
    queries: int = 12
    """Held-out pairs behind one context (K)."""
    sft_contexts: int = 40
    """Contexts of the first stage (Pref-FT)."""
    contexts: int = 10
    """Contexts of the second stage (IPO or DPO)."""
    contexts_per_step: int = 1
    sft_lr: float = 5e-4
    lr: float = 1e-4
    ipo_beta: float = 0.1
    dpo_beta: float = 0.1
    lora_rank: int = 16
    """0 trains every weight."""
    dtype: str = "float32"
    chunk: int = 24
    """Answers in memory at a time."""
    test_users: int = 24
    """Episodes of test users, one each; a task's few fixed users come round again with other shots."""
    test_questions: int = 6
    """Questions answered for each test user."""
    test_pairs: int = 3
    """Held-out pairs of each test user whose likelihoods are compared."""
    chat_template: bool = True
    candidates: int = 8
    """K: sampled answers of the untouched model to a question, among which every reward method picks."""
    reward_steps: int = 1500
    """Optimiser steps of small reward models on frozen embeddings (GPO, VPL, LoRe)."""

    def __post_init__(self) -> None:
        lowest = {"lora_rank": 0, "shots": 1, "queries": 1, "sft_contexts": 1, "contexts": 1, "chunk": 2,
                  "contexts_per_step": 1, "test_users": 1, "test_questions": 1, "test_pairs": 1,
                  "candidates": 1, "reward_steps": 1}  # fmt: skip
        for key, least in lowest.items():
            if getattr(self, key) < least:
                raise ValueError(f"{key} is {getattr(self, key)}, must be at least {least}")
        for key in ("sft_lr", "lr", "ipo_beta", "dpo_beta"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} is {getattr(self, key)}, must be above 0")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is '{self.dtype}'{did_you_mean(self.dtype, DTYPES)}")
        if not self.lora_rank and self.dtype != "float32":
            raise ValueError(
                f"lora_rank is 0 and dtype is '{self.dtype}': steps of training are too small for half "
                "precision; use dtype=float32 or a LoRA rank"
            )
        if self.chunk % 2:
            raise ValueError(f"chunk is {self.chunk}, must be even: the two answers of a pair stay together")


PRESETS = {
    p.name: p
    for p in (
        Preset(
            "tiny", model="micro", source="micro", shots=8, queries=8, sft_contexts=40, contexts=300,
            contexts_per_step=4, sft_lr=3e-4, lr=5e-4, ipo_beta=0.3, lora_rank=0,
            test_users=200, test_questions=6, test_pairs=3, reward_steps=300,
        ),
        Preset("cpu"),
        Preset(
            "gpu", show_rejected=True, queries=8, sft_contexts=1000, contexts=5000,
            contexts_per_step=4, dtype="bfloat16", chunk=64,
            test_users=200, test_questions=12, test_pairs=12, candidates=16, reward_steps=5000,
        ),
        Preset(
            "paper", model="hf/meta-llama/Llama-3.2-3B-Instruct", shots=8, show_rejected=True, queries=1,
            sft_contexts=20000, contexts=20000, contexts_per_step=4, sft_lr=1e-7, lr=1e-6,
            ipo_beta=0.01, lora_rank=0, chunk=16,
            test_users=200, test_questions=12, test_pairs=12, candidates=16, reward_steps=5000,
        ),
    )
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of that name."""
    if name not in PRESETS:
        raise UserError(f"unknown preset '{name}'{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
