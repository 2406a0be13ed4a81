"""The data card's observers on a made task where the truth is known."""

from pathlib import Path

import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.datacard import _reachable, ideal_observer, population_predictor
from fspo_bench.packs import builtin_root
from tests.conftest import write_task


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return load_task(write_task(tmp_path / "task", users=90, questions=60))


def test_the_observer_learns_from_shots_and_the_population_cannot_know(task: Task) -> None:
    """Two independent even traits: a few shots tell them, the majority does not."""
    observer = ideal_observer(task, 8)
    assert observer.value > 90
    assert observer.value > ideal_observer(task, 1).value
    assert population_predictor(task).value < 75


def test_reachable_labels_are_counted_one_by_one(task: Task) -> None:
    expected = 0
    for user in task.users.values():
        for question in task.questions.values():
            answers = task.answers_to[question.question_id]
            if "judge" not in (user.split, question.split):
                pairs = [(a, b) for n, a in enumerate(answers) for b in answers[n + 1 :]]
                expected += sum(task.prefer(user, a, b) is not None for a, b in pairs)
    assert _reachable(task) == expected


def test_roleplay_is_personal_and_learnable() -> None:
    """The floors that the data card promises."""
    task = load_task(builtin_root() / "tasks" / "roleplay")
    assert _reachable(task) > 1_000_000
    assert ideal_observer(task, 8).value >= 80
    assert ideal_observer(task, 4).value >= 72
    assert population_predictor(task).value <= 65


@pytest.mark.parametrize(
    ("name", "population"), [("elix_easy", 100 * 30 / 46), ("elix_hard", 65), ("reviews", 65)]
)
def test_the_other_tasks_are_personal_and_learnable(name: str, population: float) -> None:
    """Five users on five levels leave a population 30 of 46 labels, whatever the texts."""
    task = load_task(builtin_root() / "tasks" / name)
    assert ideal_observer(task, 8).value >= 80
    assert ideal_observer(task, 4).value >= 72
    assert population_predictor(task).value <= population + 1e-9
