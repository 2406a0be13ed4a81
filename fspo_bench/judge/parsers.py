"""From a completion to P(the user prefers the answer shown first), or to why there is none."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from fspo_bench.judge.calls import Completion
from fspo_bench.judge.spec import JudgeSpec
from fspo_bench.judge.verdicts import ABSTAINED, REFUSED, UNPARSED

_AROUND = " \t\r\n`'\"*.()[]:"  # what a model may put around a label


class Parsed(NamedTuple):
    """`p` is None exactly when there is a `reason`."""

    p: float | None
    reason: str = ""


def parse(completion: Completion, spec: JudgeSpec) -> Parsed:
    """Read a completion by the parser that the judge's file names."""
    if completion.refused:
        return Parsed(None, REFUSED)
    return label(completion, spec) if spec.parser == "label" else certainty(completion, spec)


def label(completion: Completion, spec: JudgeSpec) -> Parsed:
    """One token: P(label 1) / (P(label 1) + P(label 2)) by its log-probabilities, else the label as a text.

    A label that is not among the likeliest tokens has probability 0, as in AlpacaEval; the judge abstains
    where the label for that is likelier than either. Where neither label is among them, the text decides.
    """
    first, second, abstain = (
        sum(math.exp(logprob) for token, logprob in completion.top if token.strip(_AROUND) == name)
        for name in (*spec.labels, spec.abstain or "\0")
    )
    if first + second + abstain > 0:
        if abstain > max(first, second):
            return Parsed(None, ABSTAINED)
        return Parsed(first / (first + second))
    return _of_label(completion.text.strip(_AROUND), spec)


def certainty(completion: Completion, spec: JudgeSpec) -> Parsed:
    """JSON {"prefers": label, "certainty": 0 to 100}: P is one half at 0, one at 100.

    The judge abstains below `least_certainty`.
    """
    start = completion.text.find("{")
    try:
        found = json.JSONDecoder().raw_decode(completion.text[max(start, 0) :])[0]
        prefers, stated = str(found["prefers"]), float(found["certainty"])
    except (ValueError, TypeError, KeyError):
        return Parsed(None, UNPARSED)
    parsed = _of_label(prefers, spec)
    if parsed.p is None or not 0 <= stated <= 100:
        return Parsed(None, parsed.reason or UNPARSED)
    if stated < spec.least_certainty:
        return Parsed(None, ABSTAINED)
    return Parsed(0.5 + (parsed.p - 0.5) * stated / 100)


def _of_label(text: str, spec: JudgeSpec) -> Parsed:
    if spec.abstain and text == spec.abstain:
        return Parsed(None, ABSTAINED)
    if text in spec.labels:
        return Parsed(float(text == spec.labels[0]))
    return Parsed(None, UNPARSED)
