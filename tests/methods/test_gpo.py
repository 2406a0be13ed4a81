"""GPO on a planted task: order of the context, independence of targets, a taste told by the shots alone."""

from dataclasses import replace

import pytest

from fspo_bench.lab import BestOfK
from tests.methods.planted import PlantedLab, accuracy, best_share, method

gpo = method("gpo")
SMALL = {"episodes": 300, "width": 32, "layers": 2, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def learnt() -> tuple[PlantedLab, BestOfK]:
    lab = PlantedLab()
    lab.preset = replace(lab.preset, reward_steps=400)
    return lab, gpo.fit(lab, gpo.Config(**SMALL))


def test_a_taste_that_only_the_shots_tell_is_learnt(learnt: tuple[PlantedLab, BestOfK]) -> None:
    lab, fitted = learnt
    unseen = lab.unseen(40)
    own, swapped = accuracy(fitted, unseen), accuracy(fitted, unseen, swapped=True)
    print(own, swapped, best_share(fitted, lab, unseen), lab.measured)
    assert own > 0.9
    assert swapped < 0.5
    assert best_share(fitted, lab, unseen) > 0.9
