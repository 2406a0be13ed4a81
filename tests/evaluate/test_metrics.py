"""Metrics from rows of verdicts and rankings: what is paired with what, and which users stand apart."""

from pathlib import Path

import numpy as np
import pytest

from fspo_bench.data.tasks import Preference, Task, TaskSpec, User
from fspo_bench.evaluate.metrics import Answered, Ranked, measure
from fspo_bench.evaluate.stats import Crossed
from fspo_bench.judge.verdicts import ABSTAINED, UNPARSED, Verdict

SHOTS = (Preference("s", "?", "one two three four", "five"),)
PERFECT = Crossed(np.ones((3, 3)), np.ones((3, 3)))


def task(**splits: str) -> Task:
    users = {name: User(user_id=name, split=split) for name, split in splits.items()}  # type: ignore[arg-type]
    return Task("t", Path(), TaskSpec(version=1, summary="s", license="l"), users, {}, {}, (), "h")


def answered(user: str, p: float | None, wrong: float | None, own: float | None = 0.5) -> Answered:
    given = {"reference": p, "wrong_user": wrong, "own": own}
    verdicts = {} if p is None else {compared: Verdict((value,)) for compared, value in given.items()}
    return Answered(user, 0, "q", "one two three", "a b c d e f", None, SHOTS, verdicts)


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


def test_orders_that_disagree_count_half_and_are_dropped_by_the_papers_rule() -> None:
    orders = {"a": (0.9, 0.8), "b": (0.9, 0.3), "c": (0.2, 0.1)}
    rows = [answered(user, 0.5, 0.5) for user in orders]
    for row, both in zip(rows, orders.values(), strict=True):
        row.verdicts = {"reference": Verdict(both, (True, False))}
    m = measure(task(a="test", b="test", c="test"), rows, [ranked("a", 1)], PERFECT)
    assert m.win_rate and m.win_rate_consistent and m.win_rate_weighted and m.verdicts
    assert m.win_rate.value == 50
    assert (m.win_rate_consistent.value, m.win_rate_consistent.n) == (50, 2)
    assert m.win_rate_weighted.value == pytest.approx(100 * (0.85 + 0.6 + 0.15) / 3, abs=0.01)
    assert (m.verdicts.asked, m.verdicts.known, m.verdicts.order_dependent) == (3, 3, 1)
    assert m.personal_gain is None


def test_what_has_no_verdict_is_no_loss_for_either_side() -> None:
    rows = [answered("a", 0.9, 0.1), answered("a", 0.9, 0.1), answered("b", 0.9, 0.1)]
    rows[0].verdicts["reference"] = Verdict((None, 0.9), (True, False), UNPARSED)
    rows[1].verdicts["wrong_user"] = Verdict((None,), (True,), ABSTAINED)
    m = measure(task(a="test", b="test"), rows, [ranked("a", 1)], PERFECT)
    assert m.win_rate and m.personal_gain and m.verdicts
    assert (m.win_rate.value, m.win_rate.n) == (100, 2)
    assert (m.personal_gain.value, m.personal_gain.n) == (100, 1)
    assert m.verdicts.without == {ABSTAINED: 1, UNPARSED: 1}


def test_a_judge_that_says_nothing_leaves_no_rate() -> None:
    row = answered("a", 0.9, 0.1)
    row.verdicts = {name: Verdict((None,), (True,), UNPARSED) for name in row.verdicts}
    m = measure(task(a="test"), [row], [ranked("a", 1)], PERFECT)
    assert (m.win_rate, m.win_rate_corrected, m.personal_gain) == (None, None, None)
