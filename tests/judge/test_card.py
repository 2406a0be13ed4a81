"""Cards of judges with known habits: what they are right about, where they lean, what they leave out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.judge.card import Card, measure_judge
from fspo_bench.judge.pairs import every_pair, some_pairs
from fspo_bench.judge.verdicts import Comparison, Verdict
from tests.conftest import write_task


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load_task(write_task(tmp_path_factory.mktemp("made") / "made"))


@dataclass(frozen=True)
class Habit:
    """P(the answer shown first is better) by the two texts shown, in both orders."""

    p: Callable[[str, str], float | None]
    name: str = "habit"
    key: str = "habit"

    def verdicts(self, comparisons: Sequence[Comparison], label: str = "") -> list[Verdict]:
        def both(c: Comparison) -> Verdict:
            first, second = self.p(c.a, c.b), self.p(c.b, c.a)
            turned = None if second is None else 1 - second
            return Verdict((first, turned), (True, False), "unparsed" if None in (first, second) else "")

        return [both(c) for c in comparisons]


def card_of(task: Task, p: Callable[[str, str], float | None], n: int = 40) -> Card:
    return measure_judge(Habit(p), task, n)


def test_a_judge_that_knows_the_labels_is_always_right(task: Task) -> None:
    chosen = {(p.chosen, p.rejected) for of_user in every_pair(task) for p in of_user}
    both = {pair for pair in chosen if pair[::-1] in chosen}  # users disagree
    card = card_of(task, lambda a, b: 0.5 if (a, b) in both else float((a, b) in chosen))
    assert card.with_weak.rate == 1.0
    assert card.views.rate >= 0.5


def test_first_position(task: Task) -> None:
    card = card_of(task, lambda a, b: 0.7)
    assert (card.views.rate, card.says_first.rate, card.consistent.rate) == (0.5, 1.0, 0.0)
    assert card.says_longer.rate == 0.5


def test_the_longer_answer(task: Task) -> None:
    card = card_of(task, lambda a, b: float((len(a), a) > (len(b), b)))
    assert (card.says_first.rate, card.consistent.rate, card.says_longer.rate) == (0.5, 1.0, 1.0)
    longer = card.longest.right[card.longest.right != card.longest.total / 2]
    assert longer.size, "the dummy is measured"


def test_what_gets_no_verdict_is_counted_and_left_out(task: Task) -> None:
    card = card_of(task, lambda a, b: None if "0" in a + b else 0.9)
    whole = card_of(task, lambda a, b: 0.9)
    assert card.reasons["unparsed"] > 0
    assert card.pairs == whole.pairs
    assert card.errors.total.sum() + card.reasons["unparsed"] == whole.errors.total.sum()


def test_no_verdict_at_all_is_said(task: Task) -> None:
    with pytest.raises(UserError, match=r"no verdict on any labelled pair of task made.*unparsed"):
        card_of(task, lambda a, b: None)


def test_sampled_pairs_are_the_same_again_and_of_test_users_and_questions(task: Task) -> None:
    pairs = [p for of_user in some_pairs(task, 30) for p in of_user]
    assert pairs == [p for of_user in some_pairs(task, 30) for p in of_user]
    assert 0 < len(pairs) <= 30
    every = {(p.user_id, p.chosen, p.rejected) for of_user in every_pair(task) for p in of_user}
    assert {(p.user_id, p.chosen, p.rejected) for p in pairs} <= every
    assert {task.users[p.user_id].split for p in pairs} <= {"test", "seen"}
    assert {task.questions[p.question_id].split for p in pairs} == {"test"}
