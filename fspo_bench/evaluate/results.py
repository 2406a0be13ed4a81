"""The record of a run: `result.json`, written last, so that its existence means completeness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fspo_bench.errors import UserError
from fspo_bench.evaluate.stats import Estimate
from fspo_bench.settings import labelled

FORMAT = "fspo-bench/result/1"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Metric(_Part):
    """A rate in percent with its 95% interval (null where one user leaves no interval)."""

    value: float
    ci95: tuple[float, float] | None
    n_users: int
    n_questions: int
    n: int

    @classmethod
    def of(cls, e: Estimate) -> Metric:
        interval = None if e.low != e.low else (round(e.low, 2), round(e.high, 2))  # NaN: one user
        return cls(
            value=round(e.value, 2), ci95=interval, n_users=e.n_users, n_questions=e.n_questions, n=e.n
        )


class Usage(_Part):
    """What the answers of an LLM judge took, whenever they were asked for."""

    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    dollars: float | None
    """Null where the judge's file has no price for its model."""
    seconds_per_call: float
    served: list[str]
    """What the server called itself."""


class JudgeRecord(_Part):
    """Who judged, and how often it is right about labels it has never seen (percent)."""

    name: str
    accuracy: float
    ci95: tuple[float, float]
    accuracy_with_weak: float | None
    """Null where no pair held a weak answer."""
    accuracy_all: float
    longest_answer: float
    coin: float
    key: str
    model: str = ""
    """The one that an LLM judge asks; empty for the offline judge."""
    pairs: int = 0
    """Labelled pairs that it was measured on."""
    consistent: float | None = None
    """Share of pairs on which both orders name the same answer; null for a judge without orders."""
    says_first: float | None = None
    """Share of verdicts for the answer shown first."""
    says_longer: float | None = None
    """Share of verdicts for the longer of two real answers: `longest_answer` is how often users say so."""
    without: dict[str, int] = {}
    """Labelled pairs that got no verdict, by reason."""
    usage: Usage | None = None


class VerdictCounts(_Part):
    """Comparisons asked for, those with a verdict, those where the order decided, those without by reason."""

    asked: int
    known: int
    order_dependent: int
    without: dict[str, int] = {}


class GroupMetrics(_Part):
    """The same for a part of the users."""

    win_rate: Metric | None
    personal_gain: Metric | None
    preference_accuracy: Metric


class Metrics(_Part):
    """What was measured. A null says why in `notes`.

    `personal_gain` is in win rate, or in preference accuracy for a task without a judge.
    `own_vs_wrong_user` sets the two answers against each other: it sees what `personal_gain` cannot where
    both beat `base`.
    `win_rate` gives half credit where an LLM judge's verdict hangs on the order; `win_rate_consistent` drops
    such verdicts, as the paper does; `win_rate_weighted` is the mean probability, as in AlpacaEval.
    `longest_answer` and `population_model` rank the pairs of `preference_accuracy` and know no user.
    """

    win_rate: Metric | None
    win_rate_corrected: Metric | None
    personal_gain: Metric | None
    own_vs_wrong_user: Metric | None
    preference_accuracy: Metric
    length_ratio: float
    copy_rate: float
    longest_answer: Metric
    population_model: Metric
    win_rate_consistent: Metric | None = None
    win_rate_weighted: Metric | None = None
    verdicts: VerdictCounts | None = None
    groups: dict[str, GroupMetrics] = {}


class Record(_Part):
    """One run. Rates are percent; intervals are 95%, clustered by user."""

    task: str
    method: str
    model: str
    preset: str
    seed: int
    complete: bool
    judge: JudgeRecord | None
    metrics: Metrics
    seconds: float
    parameters: int = 0
    """Trained."""
    tokens: int = 0
    """Run in training, each pass of the policy counted."""
    measured: dict[str, float] = {}
    """What the method found out about itself (see its file)."""
    weights: dict[str, str] = {}
    """Keys of the store's folders with what was trained: `policy`, and `describer` where one writes first."""
    format: str = FORMAT
    id: str
    notes: list[str]
    stages: dict[str, float]
    spec: dict[str, Any]
    environment: dict[str, str]
    command: str

    @property
    def label(self) -> str:
        """The method with those of its own settings that are not its defaults."""
        return labelled(self.method, self.spec.get("method", {}).get("changed", {}))


def read_record(file: Path) -> Record:
    """A finished run's record."""
    try:
        return Record.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError:
        raise UserError(f"{file}: not a record of this version ({FORMAT}); move the folder away") from None


def json_schema() -> str:
    """The record's JSON Schema, as published in docs/result.schema.json."""
    return json.dumps(Record.model_json_schema(), indent=2) + "\n"
