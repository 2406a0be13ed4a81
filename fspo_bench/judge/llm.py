"""An LLM as a judge: the user's description, the question, two answers, and one of two labels back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.judge.calls import Asker, Backend, Request
from fspo_bench.judge.parsers import Parsed, parse
from fspo_bench.judge.spec import JudgeSpec, Prompt, describe_prompt
from fspo_bench.judge.verdicts import Comparison, Verdict, settled
from fspo_bench.store import digest

VERSION = 1  # raise when a verdict can change


@dataclass(frozen=True)
class LlmJudge:
    """A prompt, a parser and a model, on one task."""

    name: str
    spec: JudgeSpec
    prompt: Prompt
    task: Task
    asker: Asker

    @cached_property
    def key(self) -> str:
        """Everything that can change a verdict, users' descriptions included."""
        users = sorted((u.user_id, u.description) for u in self.task.users_of("test"))
        settings = describe_prompt(self.prompt, self.spec)
        return digest(["llm-judge", VERSION, self.asker.backend.key, settings, users])

    def verdicts(self, comparisons: Sequence[Comparison], label: str = "judge") -> list[Verdict]:
        """One for each comparison; equal and empty answers are not asked about."""
        wanted = {c: list(self.requests(c)) for c in dict.fromkeys(comparisons)}
        answers = iter(self.asker.ask([r for asked in wanted.values() for _, r in asked], label))
        found = {
            c: [(a_first, parse(next(answers), self.spec)) for a_first, _ in asked]
            for c, asked in wanted.items()
        }
        return [settled(c.a, c.b) or _verdict(found[c]) for c in comparisons]

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """What asking about these would take beyond what is known, in words."""
        every = [r for c in dict.fromkeys(comparisons) for _, r in self.requests(c)]
        missing = self.asker.unknown(every)
        tokens = sum(r.likely_tokens for r in missing)
        written = len(missing) * self.spec.parameters.max_tokens
        price = self.asker.price
        cost = (
            f"${price.cost(tokens, written):.4f}"
            if price
            else f"no price of {self.spec.model} in its judge.yaml"
        )
        known = len(set(every)) - len(missing)
        return (
            f"{len(missing):,} calls ({known:,} more are known), about {tokens:,} tokens to read and at most "
            f"{written:,} to write: {cost}"
        )

    def requests(self, comparison: Comparison) -> Iterator[tuple[bool, Request]]:
        """What is asked for a comparison: (whether a stands first, the request) for each order."""
        if settled(comparison.a, comparison.b):
            return
        for a_first in self._orders(comparison):
            first, second = (comparison.a, comparison.b) if a_first else (comparison.b, comparison.a)
            values = {
                "description": self._description(comparison.user_id), "question": comparison.question,
                "first": first, "second": second,
            }  # fmt: skip
            shared, user = self.prompt.filled(values)
            yield a_first, Request(self.prompt.system, user, shared)

    def _orders(self, comparison: Comparison) -> tuple[bool, ...]:
        """Both, or one drawn by the user and the question alone, so that it is the same for every method."""
        if self.spec.order == "both":
            return True, False
        return (random.Random(digest(["order", comparison.user_id, comparison.question])).random() < 0.5,)

    def _description(self, user_id: str) -> str:
        if "{description}" not in self.prompt.user:
            return ""
        if description := self.task.users[user_id].description:
            return description
        raise UserError(
            f"judge '{self.name}' reads users' descriptions, and user '{user_id}' of task {self.task.name} "
            "has none; choose a judge whose prompt does without"
        )


def _verdict(orders: Sequence[tuple[bool, Parsed]]) -> Verdict:
    """P of the answer shown first, in each order, turned into P of a."""
    reasons = {parsed.reason for _, parsed in orders if parsed.reason}
    return Verdict(
        tuple(p if p is None or a_first else 1 - p for a_first, (p, _) in orders),
        tuple(a_first for a_first, _ in orders),
        max(reasons, default=""),  # "unparsed" before "refused" before "abstained"
    )


def open_backend(model: str, spec: JudgeSpec) -> Backend:
    """The model that a judge's file or `--judge-model` names."""
    kind, _, rest = model.partition("/")
    if kind == "openai":
        from fspo_bench.judge.servers import Server

        if not rest:
            raise UserError("judge model 'openai/': name the model, as in openai/gpt-4o-2024-08-06")
        return Server(rest, spec.concurrency, spec.timeout, spec.retries)
    if kind == "vllm":
        from fspo_bench.judge.local import Vllm

        return Vllm(rest)
    from fspo_bench.judge.local import Transformers

    return Transformers(model)
