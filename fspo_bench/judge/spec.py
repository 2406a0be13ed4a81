"""`judges/NAME/judge.yaml` and its prompt file: an LLM judge as a person writes it.

A prompt file has a part under `# system` (may be absent) and one under `# user`. In it stand
{description}, {question}, {first} and {second}, in this order: what many requests share comes first,
so that servers find it in their prefix caches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fspo_bench.errors import UserError
from fspo_bench.packs import Found

OFFLINE = "offline"
SLOTS = ("description", "question", "first", "second")
_SLOT = re.compile(r"\{(description|question|first|second)\}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Price(_Part):
    """Dollars for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    """For input that the server had in its cache (default: as any input)."""

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """In dollars."""
        cached = self.input if self.cached is None else self.cached
        fresh = input_tokens - cached_tokens
        return (fresh * self.input + cached_tokens * cached + output_tokens * self.output) / 1e6


class Parameters(_Part):
    """What goes along with each request; further keys are passed to the server as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    max_tokens: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=1, le=20)


class JudgeSpec(_Part):
    """`judge.yaml`."""

    summary: str
    model: str
    prompt: str = ""
    parser: Literal["label", "certainty"] = "label"
    labels: tuple[str, str] = ("m", "M")
    abstain: str = ""
    """The label for 'cannot be said'; empty where the judge must choose."""
    least_certainty: float = Field(default=0.0, ge=0, le=100)
    """For the parser `certainty`: below it the judge abstains."""
    order: Literal["both", "random"] = "both"
    parameters: Parameters = Parameters()
    prices: dict[str, Price] = {}
    card_pairs: int = Field(default=200, ge=1)
    """Labelled pairs by which the judge is measured."""
    concurrency: int = Field(default=16, ge=1)
    """Requests under way at a time."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds after which a request is given up and tried again."""
    retries: int = Field(default=6, ge=0)
    """Tries after the first, with a growing pause."""

    @model_validator(mode="after")
    def _labels_differ(self) -> JudgeSpec:
        labels = [*self.labels, *([self.abstain] if self.abstain else [])]
        if len(set(labels)) < len(labels) or not all(labels):
            raise ValueError("labels must differ from each other and from `abstain`, and not be empty")
        if self.model != OFFLINE and not self.prompt:
            raise ValueError("`prompt` is missing; name the prompt's file")
        return self


class Prompt(_Part):
    """A prompt file: system message and user message with slots."""

    system: str
    user: str

    def filled(self, values: Mapping[str, str]) -> tuple[str, str]:
        """The user message before `{first}`, which comparisons share, and all of it.

        Slots are filled in one pass: braces in an answer stay as they are.
        """
        shared, _, _ = self.user.partition("{first}")
        return self._fill(shared, values), self._fill(self.user, values)

    @staticmethod
    def _fill(text: str, values: Mapping[str, str]) -> str:
        return _SLOT.sub(lambda slot: values[slot[1]], text)


def read_spec(found: Found) -> JudgeSpec:
    """A judge's `judge.yaml`.

    Raises:
        UserError: naming the file and the field.
    """
    file = found.path / "judge.yaml"
    try:
        return JudgeSpec.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "judge.yaml"
        raise UserError(f"{file}: {where}: {fault['msg']}") from None


def read_prompt(found: Found, spec: JudgeSpec) -> Prompt:
    """The prompt file of a judge.

    Raises:
        UserError: no such file, no `# user` part, or slots missing or in another order.
    """
    file = found.path / spec.prompt
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        raise UserError(f"{found.path / 'judge.yaml'}: prompt: no file '{file}'") from None
    before, heading, user = text.partition("# user\n")
    if not heading or not user.strip():
        raise UserError(f"{file}: no part under a line '# user'")
    slots = _SLOT.findall(user)
    if slots != [s for s in SLOTS if s in slots] or not {"question", "first", "second"} <= set(slots):
        raise UserError(
            f"{file}: needs {{question}}, {{first}} and {{second}} once each and in this order, "
            "{description} before them"
        )
    return Prompt(system=before.partition("# system\n")[2].strip(), user=user.strip())


def describe_prompt(prompt: Prompt, spec: JudgeSpec) -> dict[str, Any]:
    """All of a judge's settings that can change a verdict."""
    kept = {"parser", "labels", "abstain", "least_certainty", "order", "parameters"}
    return {"prompt": prompt.model_dump(), **spec.model_dump(include=kept, mode="json")}
