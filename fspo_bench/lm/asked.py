"""Policies that only answer: on a server (`openai/NAME`), or in vLLM in this process (`vllm/NAME`).

They decode by the likeliest token and apply their own chat template. Their weights cannot be trained here,
and likelihoods of given answers are not asked for: servers differ in what they can say of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from fspo_bench.errors import UserError
from fspo_bench.judge.calls import Backend, Completion, Request
from fspo_bench.judge.spec import Parameters
from fspo_bench.lm.prompts import Context, chat_messages
from fspo_bench.progress import Line
from fspo_bench.store import Store, digest

if TYPE_CHECKING:
    from fspo_bench.lm.outputs import Question
    from fspo_bench.method import Method
    from fspo_bench.presets import Preset

VERSION = 1  # raise when what is asked changes
NOTE = "answers by {}: its own decoding, and no preference accuracy, as nothing is asked about likelihoods"


def backend_of(name: str) -> Backend | None:
    """Who answers for a model's name; None where its weights are read here.

    Raises:
        UserError: a prefix without a name.
    """
    if name.startswith("vllm/"):
        from fspo_bench.judge.local import Vllm

        return Vllm(name.removeprefix("vllm/"))
    if not name.startswith("openai/"):
        return None
    from fspo_bench.judge.servers import Server

    match = re.fullmatch(r"openai/([^@]+)(?:@(https?://.+))?", name)
    if not match:
        raise UserError(
            f"--model {name}: name the model, as in openai/NAME or openai/NAME@http://HOST:8000/v1"
        )
    return Server(match[1], base_url=match[2] or "")


def refuse_training(name: str, method: Method, preset: Preset) -> None:
    """A policy that only answers runs what only prompts.

    Raises:
        UserError: the method trains, or the preset asks for a prompt that is no chat.
    """
    if hasattr(method.module, "fit") or method.stages(preset):
        raise UserError(
            f"--model {name}: method '{method.name}' needs the policy's weights, and this one only answers; "
            "take a baseline that prompts (base, few_shot, oracle, persona_shots, verbose, concise), or give "
            "the weights by hf/ORG/NAME or a folder"
        )
    if not preset.chat_template:
        raise UserError(f"--model {name}: it reads chats alone; leave out --set chat_template=false")


@dataclass(frozen=True)
class _Asked(Request):
    """A question behind its context."""

    instruction: str = ""
    context: Context = field(default_factory=Context)

    @property
    def messages(self) -> list[dict[str, str]]:
        return chat_messages(self.instruction, self.context, self.user)


def ask(
    backend: Backend, instruction: str, questions: Sequence[Question], max_new_tokens: int, store: Store,
    label: str,
) -> dict[Question, str]:  # fmt: skip
    """The text that the model answers to each question, from the store where known.

    Raises:
        UserError: the model refuses some.
    """
    requests = {q: _Asked("", q[1], instruction=instruction, context=q[0]) for q in questions}
    keys = {r: digest(["asked", VERSION, backend.key, r.messages, max_new_tokens]) for r in requests.values()}
    missing = sorted((r for r, key in keys.items() if not store.has(key)), key=lambda r: (r.context, r.user))
    line = Line(label, len(missing))
    refused: list[str] = []

    def keep(request: Request, completion: Completion) -> None:
        assert isinstance(request, _Asked)
        if completion.refused:
            refused.append(completion.refused)
        else:
            store.put(keys[request], asdict(completion))
        line.advance()

    if missing:
        backend.complete(iter(missing), Parameters(max_tokens=max_new_tokens), keep)
    line.close()
    if refused:
        raise UserError(
            f"{backend.key} refuses {len(refused)} of {len(missing)} questions ({refused[0]}); with too "
            "long a context, take fewer shots (--set shots=N)"
        )
    return {q: str(store.get(keys[r])["text"]).strip() for q, r in requests.items()}  # type: ignore[index]
