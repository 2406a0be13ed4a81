"""Putting a user into words: a describer writes from the shots, an answerer reads what it wrote.

Shared by the methods that describe before they answer (`fspo_rat`, `popi`, `summary`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fspo_bench.data.tasks import Preference
from fspo_bench.lab import Lab, Prompted, Reply
from fspo_bench.lm.prompts import Context, Seen, description_context, shots_context

REQUEST = (
    "Leave the questions above. In one or two sentences, describe this user: "
    "what do they like in an answer, and what do they dislike?"
)
"""Stands behind the shots in place of a question."""
DESCRIPTION_TOKENS = 128
"""At most; true descriptions have about eighty words in `roleplay`, where they are longest."""
MEASURED = 16
"""Episodes of training users on which a describer is measured."""


def told(context: Context, description: str) -> Context:
    """The context with a description in its system message, or as it is if there is nothing to tell."""
    if not description:
        return context
    about = description_context(description).system
    return replace(context, system=" ".join(part for part in (context.system, about) if part))


def shots_and_description(seen: Seen, description: str) -> Context:
    """The user's shots, and in words what they like."""
    return told(shots_context(seen), description)


def describe(
    lab: Lab, state: str, seen: Sequence[Seen], max_new_tokens: int = DESCRIPTION_TOKENS
) -> list[str]:
    """The likeliest description of each user, written by the policy in a state."""
    return lab.write(state, [_request(s) for s in seen], "descriptions", max_new_tokens)


def sample_descriptions(
    lab: Lab, state: str, seen: Sequence[Seen], k: int, max_new_tokens: int = DESCRIPTION_TOKENS
) -> list[list[str]]:
    """`k` descriptions of each user, on-policy: at temperature 1, without a nucleus."""
    asked = [_request(s) for s in seen]
    return lab.sample(state, asked, k, "sampled descriptions", 1.0, 1.0, max_new_tokens)


def _request(seen: Seen) -> tuple[Context, str]:
    return shots_context(seen), REQUEST


@dataclass(frozen=True)
class DescribeThenAnswer:
    """Describes each user from the shots, then answers and ranks behind that description.

    The description is each reply's note.
    """

    lab: Lab
    describer: str
    """State of the policy that describes."""
    behind: Callable[[Seen, str], Context]
    """What the answerer reads of a user with this description."""
    state: str
    reference: str | None = None
    """Of the answerer, as in `Prompted`."""
    max_new_tokens: int = DESCRIPTION_TOKENS

    def answer(self, asked: Sequence[tuple[Seen, str]]) -> list[Reply]:
        notes = self._notes([seen for seen, _ in asked])
        replies = self._answerer(notes).answer(asked)
        return [replace(reply, note=notes[seen]) for reply, (seen, _) in zip(replies, asked, strict=True)]

    def margins(self, pairs: Sequence[tuple[Seen, Preference]]) -> list[float]:
        return self._answerer(self._notes([seen for seen, _ in pairs])).margins(pairs)

    def _notes(self, seen: Sequence[Seen]) -> dict[Seen, str]:
        users = list(dict.fromkeys(seen))
        return dict(zip(users, describe(self.lab, self.describer, users, self.max_new_tokens), strict=True))

    def _answerer(self, notes: dict[Seen, str]) -> Prompted:
        return Prompted(self.lab, lambda seen: self.behind(seen, notes[seen]), self.state, self.reference)
