"""Answers of a policy, from the store where known, and what can be measured on them without a judge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from fspo_bench.data.tasks import Preference
from fspo_bench.progress import track
from fspo_bench.store import Store, digest

if TYPE_CHECKING:  # bring torch, and what only counts words needs none
    from fspo_bench.lm.policy import Policy
    from fspo_bench.lm.prompts import Context, PromptEncoder

VERSION = 1  # raise when decoding changes
ROWS = 48  # answers that decode together
NO_REPEAT = 3  # for every method and base alike: no three tokens in a row twice

Question: TypeAlias = "tuple[Context, str]"  # context, prompt


def answers(
    policy: Policy,
    encoder: PromptEncoder,
    asked: Sequence[Question],
    max_new_tokens: int,
    store: Store,
    label: str,
) -> dict[Question, str]:
    """Greedy answers to all questions, whole sentences only; each context is read once a batch."""
    if policy.backend:
        from fspo_bench.lm.asked import ask

        texts = ask(policy.backend, encoder.instruction, asked, max_new_tokens, store, label)
        return {question: _tidied(text) for question, text in texts.items()}
    wanted = [(q, None) for q in dict.fromkeys(asked)]
    written = _written(policy, encoder, wanted, None, max_new_tokens, store, label)
    return {question: written[question, None] for question in dict.fromkeys(asked)}


def samples(
    policy: Policy,
    encoder: PromptEncoder,
    asked: Sequence[Question],
    k: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    store: Store,
    label: str,
) -> dict[Question, list[str]]:
    """`k` sampled answers to each question; the n-th of a question is the same whatever `k` is."""
    wanted = [(q, n) for q in dict.fromkeys(asked) for n in range(k)]
    written = _written(policy, encoder, wanted, (temperature, top_p), max_new_tokens, store, label)
    return {question: [written[question, n] for n in range(k)] for question in dict.fromkeys(asked)}


Wanted: TypeAlias = "tuple[Question, int | None]"  # which answer: the greedy one, or the n-th sample


def _written(
    policy: Policy, encoder: PromptEncoder, wanted: Sequence[Wanted], sampled: tuple[float, float] | None,
    max_new_tokens: int, store: Store, label: str,
) -> dict[Wanted, str]:  # fmt: skip
    from fspo_bench.lm.generate import Asked, Sampling, generate, sampler

    questions = dict.fromkeys(q for q, _ in wanted)
    encoded = {q: (encoder.prefix(q[0]), encoder.question(q[1])) for q in questions}

    def key(question: Question, n: int | None) -> str:
        how = [] if n is None else [n, *(sampled or ())]
        latent = [question[0].latent] if question[0].latent else []
        return digest(
            ["generate", VERSION, policy.key, *encoded[question], max_new_tokens, NO_REPEAT, *how, *latent]
        )

    keys = {w: key(*w) for w in wanted}
    known = {w: store.get(key) for w, key in keys.items()}
    missing = sorted((w for w, ids in known.items() if ids is None), key=lambda w: w[0][0])
    for batch in track([missing[i : i + ROWS] for i in range(0, len(missing), ROWS)], label):
        groups = [list(group) for _, group in groupby(batch, key=lambda w: w[0][0])]
        jobs = [
            Asked(encoded[q][0], tuple(encoded[w][1] for w, _ in group), q[0].latent)
            for group in groups
            for q, _ in group[:1]
        ]
        seeds = tuple(int(keys[w][:15], 16) for w in batch)
        draw = sampler(Sampling(*sampled, seeds)) if sampled else None
        new = generate(policy.model, jobs, encoder.end, max_new_tokens, NO_REPEAT, draw)
        for w, ids in zip(batch, new, strict=True):
            known[w] = ids
            store.put(keys[w], ids)
    return {w: _tidied(encoder.decode(ids or [])) for w, ids in known.items()}


def _tidied(text: str) -> str:
    """The answer alone, in whole sentences."""
    from fspo_bench.lm.generate import first_answer, whole_sentences

    return whole_sentences(first_answer(text))


def copied_share(text: str, shots: Sequence[Preference]) -> float:
    """The longest run of words that a text shares with any shot, as a share of the text's words."""
    words = text.lower().split()
    if not words:
        return 0.0
    longest = max(
        (_shared_run(words, s.lower().split()) for p in shots for s in (p.chosen, p.rejected)), default=0
    )
    return longest / len(words)


def _shared_run(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common run of two word lists (dynamic programming over b)."""
    best, before = 0, [0] * (len(b) + 1)
    for word in a:
        now = [0] * (len(b) + 1)
        for j, other in enumerate(b, 1):
            if word == other:
                now[j] = before[j - 1] + 1
                best = max(best, now[j])
        before = now
    return best
