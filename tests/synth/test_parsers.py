"""Whatever a model writes: no parser fails, and what it gives keeps its promises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fspo_bench.synth import parsers
from fspo_bench.synth.parsers import FIRST, SECOND, TIE

ANY = st.text() | st.text(alphabet='12."\n-*[]() aA\ud800\0{}Answer:')
WORD = st.text(alphabet="abcdefghij", min_size=1, max_size=8)
POINT = st.lists(WORD, min_size=3, max_size=9).map(" ".join)
MARK = st.sampled_from(["{n}. ", "{n}) ", "({n}) ", "- ", "* ", "  {n}:  "])


@given(ANY)
def test_nothing_makes_a_parser_fail(text: str) -> None:
    assert parsers.verdict(text) in (FIRST, SECOND, TIE, None)
    for found in (parsers.prose(2, 6)(text), parsers.sentence(text), *parsers.items(text)):
        if found is not None:
            assert found.strip() == found != ""
            assert "\n" not in found and "\0" not in found
            found.encode()  # it can be written
    assert len(parsers.listed(3)(text) or []) <= 3
    assert all(3 <= len(q.split()) <= 60 for q in parsers.questions(5)(text) or [])
    if (prose := parsers.prose(2, 6)(text)) is not None:
        assert 2 <= len(prose.split()) <= 6


@given(st.lists(POINT, min_size=1, max_size=12), MARK, st.sampled_from(["", "Sure! Here you are:\n\n"]))
def test_a_list_is_read_whatever_its_marks(points: list[str], mark: str, before: str) -> None:
    text = before + "\n".join(mark.format(n=n) + point for n, point in enumerate(points, 1)) + "\n\nEnjoy"
    assert parsers.items(text) == points
    assert parsers.items(f"```json\n{json.dumps(points)}\n```") == points


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("1", FIRST), ("2.", SECOND), (" **2**", SECOND), ("Answer 1", FIRST), ("0", TIE),
        ("It is a tie.", TIE), ("(1) because it is kind", FIRST), ("Answer: 2", SECOND),
        ("The first one", FIRST), ("1, not 2", FIRST), ("Both 1 and 2 are fine", None),
        ("A person of 25", None), ("", None), ("3", None), ("1.5", None), ("12", None),
        ("I prefer the second answer", SECOND),
    ],
)  # fmt: skip
def test_a_verdict_is_a_number_or_nothing(text: str, means: str | None) -> None:
    assert parsers.verdict(text) == means


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Here is the answer: Go out. Take a friend alo", "Go out."),
        ('"Walk there. It is near."', "Walk there. It is near."),
        ("Walk\nthere  slowly.", "Walk there slowly."),
        ("I'm sorry, but I cannot help with that.", None),
        ("As an AI language model, I walk.", None),
        ("no end in sight", None),
        ("Costs 3.5 euros a day.", "Costs 3.5 euros a day."),
    ],
)
def test_prose_is_whole_sentences(text: str, kept: str | None) -> None:
    assert parsers.prose(2, 20)(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Sentence: She likes quiet rooms. And more.", "She likes quiet rooms."),
        ("She likes quiet rooms", "She likes quiet rooms."),
        ("The person prefers Answer 1 because it is short.", None),
        ("Yes.", None),
        ("word " * 60, None),
    ],
)
def test_a_statement_is_one_sentence_about_the_person(text: str, kept: str | None) -> None:
    assert parsers.sentence(text) == kept


def test_an_answer_in_another_script_is_seen() -> None:
    assert parsers.foreign("Go 出去 now.", "What now?")
    assert not parsers.foreign("出去吧。", "去哪里?")
    assert not parsers.foreign("Déjà vu, naïve Ängste.", "What now?")
