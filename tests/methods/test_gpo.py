"""GPO on a planted task: order of the context, independence of targets, a taste told by the shots alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fspo_bench.lm.prompts import Seen
from fspo_bench.rewards import BestOfK
from tests.methods.planted import PlantedLab, accuracy, best_share, judged, method

gpo = method("gpo")
SMALL = gpo.Config(episodes=300, width=32, layers=2, learning_rate=2e-3)
Learnt = tuple[PlantedLab, BestOfK]


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    lab = PlantedLab()
    lab.preset = replace(lab.preset, reward_steps=200)
    return lab, gpo.fit(lab, SMALL)


def test_a_taste_that_only_the_shots_tell_is_learnt(learnt: Learnt) -> None:
    lab, fitted = learnt
    unseen = lab.unseen(40)
    assert accuracy(fitted, unseen) > 0.9
    assert accuracy(fitted, unseen, swapped=True) < 0.5
    assert best_share(fitted, lab, unseen) > 0.9


def test_the_measures_are_of_users_not_trained_on(learnt: Learnt) -> None:
    lab, _ = learnt
    assert lab.measured["held_out_accuracy"] > 0.9
    assert lab.measured["swapped_accuracy"] < 0.5
    assert 0 < lab.measured["std_calibration"] < 2


def test_the_order_of_the_shots_does_not_matter_but_the_shots_do(learnt: Learnt) -> None:
    lab, fitted = learnt
    one, other = (e.seen for e in lab.unseen(2))
    own = np.array(fitted.reward(judged(one)))
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        permuted = Seen(tuple(one.shots[n] for n in order))
        np.testing.assert_allclose(fitted.reward(judged(permuted)), own, rtol=1e-5, atol=1e-5)
    assert np.abs(np.array(fitted.reward(judged(other))) - own).max() > 0.1


def test_targets_do_not_see_each_other(learnt: Learnt) -> None:
    lab, fitted = learnt
    one, other = (e.seen for e in lab.unseen(2))
    items = [*judged(one), *judged(other)]
    mixed = [items[n] for n in (7, 2, 0, 9, 4, 1, 8, 3, 6, 5)]  # users interleaved
    together = dict(zip(mixed, fitted.reward(mixed), strict=True))
    for item in items:
        np.testing.assert_allclose(fitted.reward([item]), together[item], rtol=1e-5, atol=1e-5)


def test_the_standard_deviation_is_fitted_to_the_distance_of_the_label() -> None:
    even = torch.zeros(2)  # p = 0.5, so every label is 0.5 away
    loss = {s: float(gpo.pair_loss(even, torch.full((2,), s))) for s in (0.2, 0.5, 1.0)}
    assert min(loss, key=loss.__getitem__) == 0.5
    right, wrong = (gpo.pair_loss(torch.tensor(m), torch.full((2,), 0.5)) for m in ([2.0, 0.0], [0.0, 2.0]))
    assert right < wrong


def test_trained_once(learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, fitted = learnt
    monkeypatch.setattr(gpo, "train", None)
    again = replace(lab, measured={})
    items = judged(lab.unseen(1)[0].seen)
    assert gpo.fit(again, SMALL).reward(items) == fitted.reward(items)
    assert again.measured == lab.measured


@pytest.mark.parametrize(
    ("key", "value"), [("episodes", 1), ("batch", 0), ("layers", 0), ("learning_rate", 0.0), ("heads", 3)]
)
def test_a_bad_setting_is_named(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        gpo.Config(**{key: value})
