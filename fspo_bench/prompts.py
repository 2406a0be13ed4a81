"""What the policy reads: the context (shared by a user's queries), the question, the answer.

The paper's markdown layout inside the model's chat template when it has one, else plain. Segments
are tokenised apart and concatenated, in training, scoring and generation alike, so the shared
context is the same token ids everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fspo_bench.shared_context import Branch
from fspo_bench.tasks import Preference

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPLIT = "\u241e"  # a mark that no text holds, to cut the rendered template at the question


@dataclass(frozen=True)
class Seen:
    """All that a method may see of a user: shots, and the description only if it declares so."""

    shots: tuple[Preference, ...] = ()
    description: str = ""
    show_rejected: bool = True
    """Whether the preset shows both sides of a shot (see `Preset.show_rejected`)."""


def shots_context(seen: Seen) -> str:
    """The user's preferences as worked examples (the paper's layout), up to the query's heading."""
    text = ""
    for k, shot in enumerate(seen.shots, 1):
        text += f"# Example {k}\n## Question\n{shot.prompt}\n"
        if seen.show_rejected:
            text += f"## Preferred Response\n{shot.chosen}\n## Dispreferred Response\n{shot.rejected}\n\n"
        else:
            text += f"## Response\n{shot.chosen}\n\n"
    return text + "# Task\nAnswer the way this user prefers, given the examples.\n## Question\n"


def description_context(description: str) -> str:
    """The user's true description, up to the query's heading (the oracle's context)."""
    return f"# User\n{description}\n\n# Task\nAnswer the way this user would prefer.\n## Question\n"


class PromptEncoder:
    """Turns contexts, questions and answers into token ids for one model and task."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, instruction: str, chat_template: bool = True
    ) -> None:
        self.tokenizer = tokenizer
        if chat_template and tokenizer.chat_template:
            system = [{"role": "system", "content": instruction}] if instruction else []
            rendered = tokenizer.apply_chat_template(
                [*system, {"role": "user", "content": _SPLIT}], tokenize=False, add_generation_prompt=True
            )
            self._before, self._after = str(rendered).split(_SPLIT)
        else:
            self._before = (tokenizer.bos_token or "") + (f"{instruction}\n\n" if instruction else "")
            self._after = "\n## Preferred Response\n"

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def prefix(self, context: str) -> tuple[int, ...]:
        """The shared context's ids; never none, since a model must read something first."""
        return self._ids(self._before + context) or (self.end,)

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
