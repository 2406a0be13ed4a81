"""What controls see of a test user."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fspo_bench import trial
from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Episode
from fspo_bench.lm.prompts import Seen
from fspo_bench.method import open_methods
from fspo_bench.packs import find_methods, packs, resolve
from tests.conftest import SMALL


@pytest.fixture
def shown(made_task: Path) -> Callable[[str], list[tuple[Episode, Seen]]]:
    """Each test episode with what a control of few_shot sees of it."""

    def shown(control: str) -> list[tuple[Episode, Seen]]:
        found = find_methods(packs()[:1])
        chosen = resolve(control, found, "method")
        ((method, _),) = open_methods([chosen], SMALL, {"of": "few_shot"}, among=found)
        task = load_task(made_task)
        episodes = task.test_episodes(3, 1, 4, 0)
        return [(e, trial.shown(method, task, episodes, n)) for n, e in enumerate(episodes)]

    return shown


def test_wrong_user_sees_another_users_shots(shown: Callable[[str], list[tuple[Episode, Seen]]]) -> None:
    rows = shown("wrong_user")
    everybody = {e.shots: e.user_id for e, _ in rows}
    assert all(everybody[seen.shots] != e.user_id for e, seen in rows)
    assert {seen.shots for _, seen in rows} == set(everybody)


def test_shuffled_labels_turn_some_of_the_users_own_shots(
    shown: Callable[[str], list[tuple[Episode, Seen]]],
) -> None:
    turned = []
    for episode, seen in shown("shuffled_labels"):
        for own, shot in zip(episode.shots, seen.shots, strict=True):
            assert (shot.prompt, {shot.chosen, shot.rejected}) == (own.prompt, {own.chosen, own.rejected})
            turned.append(shot.chosen == own.rejected)
    assert 0 < sum(turned) < len(turned)
