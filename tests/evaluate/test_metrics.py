"""Metrics from rows of verdicts and rankings: what is paired with what, and which users stand apart."""

from pathlib import Path

import numpy as np
import pytest

from fspo_bench.data.tasks import Preference, Task, TaskSpec, User
from fspo_bench.evaluate.metrics import Answered, Ranked, half, measure
from fspo_bench.evaluate.stats import JudgeErrors

SHOTS = (Preference("s", "?", "one two three four", "five"),)
PERFECT = JudgeErrors(np.ones((3, 3)), np.ones((3, 3)))


def task(**splits: str) -> Task:
    users = {name: User(user_id=name, split=split) for name, split in splits.items()}  # type: ignore[arg-type]
    return Task("t", Path(), TaskSpec(version=1, summary="s", license="l"), users, {}, {}, (), "h")


def answered(user: str, p: float | None, wrong: float | None, own: float | None = 0.5) -> Answered:
    return Answered(user, 0, "q", "one two three", "a b c d e f", None, SHOTS, p, wrong, own)


def ranked(user: str, right: float, wrong: float | None = None) -> Ranked:
    return Ranked(user, "q", right, wrong, longest=1.0, population=0.0)


def test_wins_and_their_gain_over_another_users_shots() -> None:
    rows = [
        answered("a", 0.9, 0.8, 0.7),
        answered("a", 0.9, 0.1, 0.8),
        answered("b", 0.2, 0.3, 0.6),
        answered("b", 0.5, 0.1, 0.5),
    ]
    m = measure(task(a="test", b="test"), rows, [ranked("a", 1), ranked("b", 0)], PERFECT)
    assert m.win_rate
    assert m.win_rate.value == 100 * (1 + 1 + 0 + 0.5) / 4
    assert m.personal_gain
    assert m.personal_gain.value == 100 * ((1 - 1) + (1 - 0) + (0 - 0) + (0.5 - 0)) / 4
    assert m.own_vs_wrong_user
    assert m.own_vs_wrong_user.value == 100 * (1 + 1 + 1 + 0.5) / 4  # also where both lose to base
    assert m.win_rate_corrected
    assert m.win_rate_corrected.value == m.win_rate.value  # this judge makes no errors
    assert m.preference_accuracy.value == 50
    assert (m.longest_answer.value, m.population_model.value) == (100, 0)
    assert m.length_ratio == 0.5
    assert m.copy_rate == 100  # three words in a row out of three
    assert m.groups == {}


def test_without_a_judge_the_gain_is_in_ranking() -> None:
    rows = [answered("a", None, None), answered("b", None, None)]
    pairs = [ranked("a", 1, 0), ranked("a", 1, 1), ranked("b", 0, 1), ranked("b", 1, 0)]
    m = measure(task(a="test", b="test"), rows, pairs, None)
    assert m.win_rate is None and m.win_rate_corrected is None
    assert m.personal_gain
    assert m.personal_gain.value == 25
    assert measure(task(a="test"), rows, [*pairs, ranked("a", 1)], None).personal_gain is None


def test_users_trained_on_and_new_users_are_reported_apart() -> None:
    rows = [
        answered("old", 0.9, 0.1),
        answered("old2", 0.9, 0.1),
        answered("new", 0.1, 0.9),
        answered("new2", 0.1, 0.2),
    ]
    pairs = [ranked("old", 1), ranked("old2", 1), ranked("new", 0), ranked("new2", 1)]
    m = measure(task(old="seen", old2="seen", new="test", new2="test"), rows, pairs, PERFECT)
    assert list(m.groups) == ["trained users", "new users"]
    old, new = m.groups.values()
    assert old.win_rate and new.win_rate and old.personal_gain and new.personal_gain
    assert (old.win_rate.value, new.win_rate.value) == (100, 0)
    assert (old.personal_gain.value, new.personal_gain.value) == (100, -50)
    assert (old.preference_accuracy.value, new.preference_accuracy.value) == (100, 50)


@pytest.mark.parametrize(("difference", "value"), [(0.2, 1.0), (-0.2, 0.0), (0.0, 0.5)])
def test_half(difference: float, value: float) -> None:
    assert half(difference) == value
