"""What is measured on answers without a judge. (Answers through the store: tests/test_run.py.)"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fspo_bench.data.tasks import Preference
from fspo_bench.lm.outputs import copied_share

WORDS = st.lists(st.sampled_from(["a", "B", "b", "c,"]), max_size=8).map(" ".join)
SHOTS = st.lists(st.builds(Preference, st.just("q"), st.just("a b c, a b"), WORDS, WORDS), max_size=3)


def shot(chosen: str, rejected: str = "") -> Preference:
    return Preference("q", "Where to?", chosen, rejected)


def brute_force(text: str, shots: list[Preference]) -> float:
    """Every run of the text's words, longest first, looked for in every shot."""
    words = text.lower().split()
    texts = [f" {' '.join(s.lower().split())} " for p in shots for s in (p.chosen, p.rejected)]
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            if any(f" {' '.join(words[start : start + length])} " in t for t in texts):
                return length / len(words)
    return 0.0


@given(WORDS, SHOTS)
def test_copied_share_agrees_with_brute_force(text: str, shots: list[Preference]) -> None:
    assert copied_share(text, shots) == brute_force(text, shots)


@pytest.mark.parametrize(
    ("text", "shots", "share"),
    [
        ("go to the sea now", [shot("go to the lake")], 3 / 5),
        ("go to the sea now", [shot("lake", rejected="to THE  sea")], 3 / 5),  # either side, any case
        ("go to the sea now", [shot("sea the to go")], 1 / 5),  # order counts
        ("go to the sea now", [shot("go to"), shot("the sea now")], 3 / 5),  # runs do not add up
        ("the sea", [shot("theseas")], 0.0),  # words, not letters
        ("where to?", [shot("lake")], 0.0),  # the prompt is no shot to copy
        ("", [shot("a")], 0.0),
        ("a b", [], 0.0),
    ],
)
def test_copied_share_by_hand(text: str, shots: list[Preference], share: float) -> None:
    assert copied_share(text, shots) == share
