"""`domain.yaml`: what a person writes to have a task made, and the switches that leave a part of it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from fspo_bench.data.tasks import Row
from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.judge.spec import Price

Switch = Literal["views", "ensemble", "steering", "refinement", "both_orders"]
SWITCHES: tuple[Switch, ...] = ("views", "ensemble", "steering", "refinement", "both_orders")


class Kind(Row):
    """Questions of one kind: the seeds come first, a model writes the rest."""

    name: str = Field(pattern=r"^[\w .+-]+$")
    count: int = Field(ge=1)
    about: str = Field(min_length=1)
    seeds: list[str] = Field(min_length=1)


class Questions(Row):
    """What is asked."""

    kinds: list[Kind] = Field(min_length=1)
    test_share: float = Field(default=0.2, gt=0, lt=1)
    similarity: float = Field(default=0.9, gt=0, le=1)
    """Cosine from which on two questions are one."""


class FixedUser(Row):
    """A user whose description is written by hand."""

    user_id: str = Field(pattern=r"^[\w.+-]+$")
    split: Literal["seen", "train", "test"] = "seen"
    group: str = ""
    description: str = Field(min_length=1)


class Users(Row):
    """Who prefers: fixed users, or `count` of them that a model writes from traits."""

    fixed: list[FixedUser] = Field(default_factory=list)
    count: int = Field(default=0, ge=0)
    traits: dict[str, list[str]] = Field(default_factory=dict)
    """Every combination of these comes equally often; it is the user's group."""
    drawn: dict[str, list[str]] = Field(default_factory=dict)
    """Each user draws a value of each of these."""
    about: str = ""
    """What a description should say."""
    test_share: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _either(self) -> Users:
        if bool(self.fixed) == bool(self.count):
            raise ValueError("give either `fixed` users or a `count` of users to be written")
        if self.count and not (self.traits and all(self.traits.values()) and all(self.drawn.values())):
            raise ValueError("users to be written need `traits`, each with at least one value")
        if self.fixed and len({u.user_id for u in self.fixed}) < len(self.fixed):
            raise ValueError("two fixed users have one user_id")
        return self


class Answers(Row):
    """How many answers each question gets, and how they come to differ."""

    views: int = Field(default=4, ge=0)
    """Answers each written for one of as many views on the question (view-conditioning)."""
    personas: int = Field(default=0, ge=0)
    """Answers each written for a persona drawn at random (persona steering)."""
    plain: int = Field(default=0, ge=0)
    about: str = ""
    """What an answer should be like, whoever it is for."""
    words: tuple[int, int] = (15, 80)
    """An answer with fewer or more is dropped."""
    temperature: float = Field(default=1.0, ge=0)
    similarity: float = Field(default=0.95, gt=0, le=1)
    """Cosine from which on two answers to a question are one."""

    @property
    def each(self) -> int:
        """Answers that a question gets."""
        return self.views + self.personas + self.plain

    @model_validator(mode="after")
    def _a_pair(self) -> Answers:
        if self.each < 2:
            raise ValueError("views + personas + plain must be at least 2: a preference needs two answers")
        if not 1 <= self.words[0] < self.words[1]:
            raise ValueError("words: give the fewest and the most, as [15, 80]")
        return self


class Labels(Row):
    """Which pairs a user labels."""

    questions: int = Field(default=24, ge=1)
    """Train questions of each user."""
    test_questions: int = Field(default=8, ge=1)
    """Test questions of each test user."""
    pairs: int = Field(default=1, ge=1)
    """Pairs of answers of each question."""
    repeats: int = Field(default=1, ge=1)
    """How often a pair is labelled; labels that do not agree are dropped."""
    temperature: float = Field(default=0.0, ge=0)
    guidance: str = ""
    """What counts beside the description."""

    @model_validator(mode="after")
    def _differ(self) -> Labels:
        if self.repeats > 1 and not self.temperature:
            raise ValueError("repeats at temperature 0 say the same again; raise `temperature`")
        return self


class Refinement(Row):
    """How descriptions grow until they decide."""

    rounds: int = Field(default=2, ge=0)
    statements: int = Field(default=2, ge=1)
    """Most statements added to a description in a round."""


class Domain(Row):
    """`domain.yaml`."""

    summary: str = Field(min_length=1)
    license: str
    about: str = Field(min_length=1)
    """What the domain is, as every prompt says it."""
    instruction: str = ""
    """The task's: the system message of every method and baseline."""
    max_new_tokens: int = Field(default=96, ge=1)
    shots: int = Field(default=8, ge=1)
    seed: int = 0
    questions: Questions
    users: Users
    answers: Answers = Answers()
    labels: Labels = Labels()
    refinement: Refinement = Refinement()
    without: list[Switch] = Field(default_factory=list)
    prices: dict[str, Price] = Field(default_factory=dict)
    """Dollars for a million tokens, by model."""

    @field_validator("without")
    @classmethod
    def _sorted(cls, without: list[Switch]) -> list[Switch]:
        return sorted(set(without))

    @model_validator(mode="after")
    def _enough(self) -> Domain:
        if self.labels.questions <= self.shots:
            raise ValueError(
                f"labels.questions is {self.labels.questions}; {self.shots} shots and a query need more"
            )
        return self

    @property
    def both_orders(self) -> bool:
        """Whether a pair is labelled with either answer first."""
        return "both_orders" not in self.without

    @property
    def rounds(self) -> int:
        """Most rounds of refinement."""
        return 0 if "refinement" in self.without else self.refinement.rounds

    @property
    def hows(self) -> list[str]:
        """How each of a question's answers is made: `view`, `persona` or `plain`."""
        view = "plain" if "views" in self.without else "view"
        persona = "plain" if "steering" in self.without else "persona"
        wanted = self.answers
        return [view] * wanted.views + [persona] * wanted.personas + ["plain"] * wanted.plain


def read_domain(file: Path, without: Sequence[str] = (), scale: float = 1.0) -> Domain:
    """A domain file, with what is left out and its numbers of users and questions scaled.

    Raises:
        UserError: naming the file and the field.
    """
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read '{file}' ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not YAML in UTF-8 ({' '.join(str(error).split())})") from None
    try:
        domain = Domain.model_validate(given)
    except ValidationError as error:
        raise UserError(_sentence(file, error)) from None
    for switch in without:
        if switch not in SWITCHES:
            raise UserError(f"--without {switch}: no such part{did_you_mean(switch, SWITCHES)}")
    together = {*domain.without, *without}
    return _scaled(domain.model_copy(update={"without": sorted(together)}), scale)


def _sentence(file: Path, error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"])) or "the whole file"
    if fault["type"] == "extra_forbidden":
        return f"{file}, '{where}': unknown key{did_you_mean(str(fault['loc'][-1]), _keys())}"
    message = "missing" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
    return f"{file}, '{where}': {message[0].lower()}{message[1:]}"


def _keys() -> set[str]:
    """The keys of a file and of its parts."""
    parts = (Domain, Kind, Questions, FixedUser, Users, Answers, Labels, Refinement)
    return {key for part in parts for key in part.model_fields}


def _scaled(domain: Domain, scale: float) -> Domain:
    if scale == 1:
        return domain

    def times(count: int) -> int:
        return math.ceil(count * scale)

    kinds = [k.model_copy(update={"count": times(k.count)}) for k in domain.questions.kinds]
    users = domain.users.model_copy(update={"count": times(domain.users.count)})
    questions = domain.questions.model_copy(update={"kinds": kinds})
    return domain.model_copy(update={"questions": questions, "users": users})


def spread(place: int, share: float) -> bool:
    """Whether the `place`-th of a row (from 0) is of the test split: as evenly as a share allows."""
    return math.floor((place + 1) * share + 0.5) > math.floor(place * share + 0.5)
