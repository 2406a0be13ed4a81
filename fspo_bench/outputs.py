"""Answers of a policy, from the store where known, and what can be measured on them without a judge."""

from __future__ import annotations

from collections.abc import Sequence

from fspo_bench.policy import Policy
from fspo_bench.prompts import PromptEncoder
from fspo_bench.store import Store, digest
from fspo_bench.tasks import Preference

VERSION = 1  # raise when decoding changes


def answers(
    policy: Policy,
    encoder: PromptEncoder,
    context: str,
    prompts: Sequence[str],
    max_new_tokens: int,
    store: Store,
) -> list[str]:
    """Greedy answers to all prompts behind one context, whole sentences only."""
    from fspo_bench.generate import generate, whole_sentences

    prefix = encoder.prefix(context)
    questions = {prompt: encoder.question(prompt) for prompt in prompts}
    keys = {
        p: digest(["generate", VERSION, policy.key, prefix, q, max_new_tokens]) for p, q in questions.items()
    }
    written = {p: store.get(key) for p, key in keys.items()}
    if missing := [p for p, ids in written.items() if ids is None]:
        new = generate(policy.model, prefix, [questions[p] for p in missing], encoder.end, max_new_tokens)
        for prompt, ids in zip(missing, new, strict=True):
            written[prompt] = ids
            store.put(keys[prompt], ids)
    return [whole_sentences(encoder.decode(written[p] or [])) for p in prompts]


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
