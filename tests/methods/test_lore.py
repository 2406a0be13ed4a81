"""LoRe on a planted task: planted directions and a new user's weights are found again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fspo_bench.lm.prompts import Seen
from fspo_bench.rewards import BestOfK
from tests.methods.planted import SIZE, PlantedLab, accuracy, best_share, judged, method

lore = method("lore")
QUICK = lore.Config(episodes=300, bases=4, basis_rate=3e-2, weight_rate=1e-1)
Learnt = tuple[PlantedLab, BestOfK]


def lab_of(kinds: tuple[int, ...] = (1, -1), shots: int = 4, steps: int = 200) -> PlantedLab:
    lab = PlantedLab(kinds=kinds)
    lab.preset = replace(lab.preset, reward_steps=steps, shots=shots)
    return lab


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    lab = lab_of()
    return lab, lore.fit(lab, QUICK)


def test_a_taste_that_only_the_shots_tell_is_learnt(learnt: Learnt) -> None:
    lab, fitted = learnt
    unseen = lab.unseen(24)
    assert accuracy(fitted, unseen) > 0.9
    assert accuracy(fitted, unseen, swapped=True) < 0.5
    assert best_share(fitted, lab, unseen) > 0.9
    assert lab.measured["held_out_accuracy"] > 0.9
    assert lab.measured["swapped_accuracy"] < 0.5


def test_planted_weights_are_recovered_for_users_not_trained_on() -> None:
    lab = lab_of(kinds=(1, 2, 3), shots=12)
    found = lore.trained(lab, replace(QUICK, bases=3))
    directions = (found.bases / found.spread)[:, :3]  # in the embedding's own units: kind k wants number k
    owner = directions.argmax(1).tolist()
    assert sorted(owner) == [0, 1, 2], "each planted direction has its basis"
    cosine = directions.amax(1) / (found.bases / found.spread).norm(dim=1)
    assert cosine.min() > 0.8
    users = lab.unseen(24)
    weights = torch.stack([found.weights(lore.gaps(lab, e.seen.shots)) for e in users])[:, np.argsort(owner)]
    planted = torch.eye(3)[[lab.kind(e.user_id) - 1 for e in users]]
    right = (weights.argmax(1) == planted.argmax(1)).float().mean()
    assert right > 0.9
    assert np.corrcoef(weights.flatten(), planted.flatten())[0, 1] > 0.8
    assert accuracy(lore.BestOfK(lab, found.reward), users) > 0.9


def test_directions_that_nobody_uses_are_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lore, "LEAST_WEIGHT", 0.4)
    lab = lab_of()
    found = lore.trained(lab, replace(QUICK, bases=8))
    kept = len(found.bases)
    assert 2 <= kept < 8
    assert lab.measured["bases_kept"] == kept == len(found.mean)
    assert 1 <= lab.measured["bases_effective"] <= kept
    assert 1 / kept <= lab.measured["largest_basis_share"] <= 1
    assert accuracy(lore.BestOfK(lab, found.reward), lab.unseen(24)) > 0.9


def test_a_strong_pull_makes_every_direction_the_populations() -> None:
    cosines = {}
    for pull in (0.0, 100.0):
        lab = lab_of(kinds=(1, 2, 3))
        lore.fit(lab, replace(QUICK, pull=pull))
        held = lab.built["lore"]
        cosines[pull] = torch.cosine_similarity(held["bases"], held["population"][None]).min()
    assert cosines[100.0] > 0.95
    assert cosines[0.0] < 0.8
    assert [lore.ramp(share) for share in (0.0, 0.2, 0.5, 0.8, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_new_user_starts_at_the_mean_and_the_prior_holds_it_there(learnt: Learnt) -> None:
    lab, _ = learnt
    found = lore.trained(lab, QUICK)
    apart = lore.gaps(lab, lab.unseen(1)[0].seen.shots)
    mean = found.mean.softmax(-1)
    torch.testing.assert_close(found.weights(apart[:0]), mean)
    far = [(replace(found, prior=prior).weights(apart) - mean).abs().sum() for prior in (0.0, 0.5, 100.0)]
    assert far[0] > far[1] > far[2]
    assert far[2] < 0.05


def test_the_population_is_bradley_terry_with_one_direction() -> None:
    lab = lab_of(kinds=(2,))
    apart = lore.gaps(lab, [q for e in lab.episodes(300, 0) for q in e.queries])
    v = lore.population(apart, QUICK, 200)
    assert v.abs().argmax() == 1
    assert v[1] / v.norm() > 0.9
    assert v.shape == (SIZE,)


def test_the_order_of_the_shots_does_not_matter(learnt: Learnt) -> None:
    lab, fitted = learnt
    one, other = (e.seen for e in lab.unseen(2))
    own = np.array(fitted.reward(judged(one)))
    np.testing.assert_allclose(fitted.reward(judged(Seen(one.shots[::-1]))), own, rtol=1e-4, atol=1e-4)
    both = fitted.reward([item for pair in zip(judged(one), judged(other), strict=True) for item in pair])
    np.testing.assert_allclose(both[0::2], own, rtol=1e-5, atol=1e-5)
    assert np.abs(np.array(both[1::2]) - own).max() > 0.1


def test_trained_once(learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, fitted = learnt
    monkeypatch.setattr(lore, "train", None)
    again = replace(lab, measured={})
    items = judged(lab.unseen(1)[0].seen)
    assert lore.fit(again, QUICK).reward(items) == fitted.reward(items)
    assert again.measured == lab.measured


@pytest.mark.parametrize(
    ("key", "value"), [("episodes", 1), ("bases", 0), ("pull", -1.0), ("prior", -1.0), ("basis_rate", 0.0)]
)
def test_a_bad_setting_is_named(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        lore.Config(**{key: value})
