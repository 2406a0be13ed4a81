"""Completions read: AlpacaEval's weighing, texts, certainty, and whatever a model may say instead."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fspo_bench.judge.calls import Completion
from fspo_bench.judge.parsers import parse
from fspo_bench.judge.spec import JudgeSpec

LABEL = JudgeSpec(summary="s", model="openai/x", prompt="p", abstain="?")
CERTAINTY = LABEL.model_copy(update={"parser": "certainty", "least_certainty": 60.0})


def said(text: str = "", refused: str = "", **likely: float) -> Completion:
    top = tuple((token.replace("_", " "), math.log(p)) for token, p in likely.items())
    return Completion(text, top, refused=refused)


@pytest.mark.parametrize(
    ("completion", "p", "reason"),
    [
        (said(m=0.6, M=0.2), 0.75, ""),
        (said(m=0.5, _m=0.1, M=0.2), 0.75, ""),  # " m" is the label, too
        (said(m=0.6), 1.0, ""),  # the other is not among the likeliest: 0, as in AlpacaEval
        (said("M", the=0.9), 0.0, ""),  # neither is: the text decides
        (said("`M`."), 0.0, ""),
        (said("m"), 1.0, ""),
        (said("?"), None, "abstained"),
        (Completion("m", (("?", math.log(0.5)), ("m", math.log(0.3)))), None, "abstained"),
        (Completion("m", (("?", math.log(0.3)), ("m", math.log(0.3)))), 1.0, ""),
        (said("Both"), None, "unparsed"),
        (said("mM"), None, "unparsed"),
        (said(""), None, "unparsed"),
        (said("m", refused="HTTP 400"), None, "refused"),
    ],
)
def test_labels(completion: Completion, p: float | None, reason: str) -> None:
    parsed = parse(completion, LABEL)
    assert parsed.p == pytest.approx(p)
    assert parsed.reason == reason


@pytest.mark.parametrize(
    ("text", "p", "reason"),
    [
        ('{"prefers": "m", "certainty": 100}', 1.0, ""),
        ('Sure: {"prefers": "M", "certainty": 80} I think', 0.1, ""),
        ('{"prefers": "m", "certainty": 59}', None, "abstained"),
        ('{"prefers": "x", "certainty": 90}', None, "unparsed"),
        ('{"prefers": "m", "certainty": 900}', None, "unparsed"),
        ('{"prefers": "m"}', None, "unparsed"),
        ('{"prefers": "m", "certainty": ', None, "unparsed"),
        ("[1]", None, "unparsed"),
        ("m", None, "unparsed"),
    ],
)
def test_certainty(text: str, p: float | None, reason: str) -> None:
    parsed = parse(said(text), CERTAINTY)
    assert parsed.p == pytest.approx(p)
    assert parsed.reason == reason


tokens = st.tuples(st.sampled_from(["m", "M", "?", " m", "the", ""]), st.floats(-30, 0))


@given(st.text(), st.lists(tokens, max_size=8), st.sampled_from([LABEL, CERTAINTY]))
def test_anything_is_a_probability_or_a_reason(
    text: str, top: list[tuple[str, float]], spec: JudgeSpec
) -> None:
    parsed = parse(Completion(text, tuple(top)), spec)
    assert (parsed.p is None) == bool(parsed.reason)
    assert parsed.p is None or 0 <= parsed.p <= 1


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_labels_swapped_are_the_probability_swapped(a: float, b: float) -> None:
    one, other = parse(said(m=a, M=b), LABEL).p, parse(said(m=b, M=a), LABEL).p
    assert one is not None and other is not None
    assert one == pytest.approx(1 - other)
