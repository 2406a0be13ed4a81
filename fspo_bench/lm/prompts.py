"""What the policy reads: the context (shared by a user's queries), the question, the answer.

A context is the chat up to the question. Segments are tokenised apart and concatenated, in training,
scoring and generation alike, so the shared context is the same token ids everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fspo_bench.data.tasks import Preference
from fspo_bench.lm.shared_context import Branch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPLIT = "\u241e"  # a mark that no text holds, to cut the rendered template at the question
_HEADING = "\n## Preferred Response\n"  # between question and answer in the plain form


@dataclass(frozen=True)
class Seen:
    """All that a method may see of a user: shots, and the rest only if it declares so."""

    shots: tuple[Preference, ...] = ()
    description: str = ""
    show_rejected: bool = True
    """Whether the preset shows both sides of a shot (see `Preset.show_rejected`)."""
    user_id: str = ""
    """Whose they are, for the one baseline that asks the judge."""


@dataclass(frozen=True, order=True)
class Context:
    """The chat before the question."""

    system: str = ""
    """Added to the task's instruction in the system message."""
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier questions, each with its answer."""
    opening: str = ""
    """Stands before the question, in the same message."""
    latent: tuple[float, ...] = ()
    """A vector that the policy reads as soft tokens before all others (see `soft_prefix`)."""


def shots_context(seen: Seen) -> Context:
    """The user's preferences: the paper's worked examples, or earlier turns with the preferred answers."""
    if not seen.show_rejected:
        return Context(
            system="The earlier answers are the ones this user prefers; answer in the same way.",
            turns=tuple((shot.prompt, shot.chosen) for shot in seen.shots),
        )
    text = ""
    for k, shot in enumerate(seen.shots, 1):
        text += f"# Example {k}\n## Question\n{shot.prompt}\n"
        text += f"## Preferred Response\n{shot.chosen}\n## Dispreferred Response\n{shot.rejected}\n\n"
    text += "# Task\nAnswer the way this user prefers, given the examples.\n## Question\n"
    return Context(opening=text)


def description_context(description: str) -> Context:
    """The user's true description (the oracle's context)."""
    return Context(system=f"Answer the way this user would prefer. About the user: {description}")


def _system(instruction: str, context: Context) -> str:
    return " ".join(part for part in (instruction, context.system) if part)


def chat_messages(instruction: str, context: Context, question: str) -> list[dict[str, str]]:
    """The chat that ends with the question, for a model with a chat template."""
    system = _system(instruction, context)
    messages = [{"role": "system", "content": system}] if system else []
    for earlier, answer in context.turns:
        messages += [{"role": "user", "content": earlier}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": context.opening + question}]


def plain_text(instruction: str, context: Context, question: str) -> str:
    """The same up to where the answer begins, for a model without one."""
    system = _system(instruction, context)
    text = f"{system}\n\n" if system else ""
    text += "".join(f"## Question\n{q}{_HEADING}{a}\n\n" for q, a in context.turns)
    return text + (context.opening or "## Question\n") + question + _HEADING


class PromptEncoder:
    """Turns contexts, questions and answers into token ids for one model and task.

    Without a tokenizer, for a policy that only answers, it knows the instruction and nothing else.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase | None, instruction: str, chat_template: bool = True
    ) -> None:
        self.instruction = instruction
        self._tokenizer, self._chat_template = tokenizer, chat_template

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        assert self._tokenizer is not None, "a policy that only answers has no tokens here"
        return self._tokenizer

    @cached_property
    def _after(self) -> str:
        return self._render(Context())[1]

    def _render(self, context: Context) -> tuple[str, str]:
        """The text before and after the question."""
        if self._chat_template and self.tokenizer.chat_template:
            messages = chat_messages(self.instruction, context, _SPLIT)
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = (self.tokenizer.bos_token or "") + plain_text(self.instruction, context, _SPLIT)
        before, after = str(text).split(_SPLIT)
        return before, after

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def text(self, context: Context, prompt: str) -> str:
        """All that the model reads before it answers, as one text."""
        before, after = self._render(context)
        return before + prompt + after

    def prefix(self, context: Context) -> tuple[int, ...]:
        """The shared context's ids; never none, since a model must read something first."""
        return self._ids(self._render(context)[0]) or (self.end,)

    def question(self, prompt: str) -> tuple[int, ...]:
        return self._ids(prompt + self._after)

    def answer(self, text: str) -> tuple[int, ...]:
        """The answer and the token that ends it."""
        return (*self._ids(text), self.end)

    @property
    def end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def branch(self, prompt: str, text: str) -> Branch:
        return Branch(self.question(prompt), self.answer(text))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()
