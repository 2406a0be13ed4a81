"""VPL on a planted task: a latent that is used, a monitor that sees when it is not, a bounded reward."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fspo_bench.lm.prompts import Seen
from fspo_bench.rewards import BestOfK
from tests.methods.planted import SIZE, PlantedLab, accuracy, best_share, judged, method

vpl = method("vpl")
SMALL = vpl.Config(episodes=300, width=64, latent=32, learning_rate=3e-3)
Learnt = tuple[PlantedLab, BestOfK]


def lab_of(steps: int) -> PlantedLab:
    lab = PlantedLab()
    lab.preset = replace(lab.preset, reward_steps=steps)
    return lab


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    lab = lab_of(120)
    return lab, vpl.fit(lab, SMALL)


def test_a_taste_that_only_the_shots_tell_is_learnt(learnt: Learnt) -> None:
    lab, fitted = learnt
    unseen = lab.unseen(40)
    assert accuracy(fitted, unseen) > 0.9
    assert accuracy(fitted, unseen, swapped=True) < 0.5
    assert best_share(fitted, lab, unseen) > 0.9
    assert lab.measured["kl_nats"] > 1
    assert lab.measured["active_units"] > 0
    assert lab.measured["held_out_accuracy"] - lab.measured["swapped_accuracy"] > 0.5


def test_the_monitor_sees_a_collapsed_latent() -> None:
    lab = lab_of(60)
    fitted = vpl.fit(lab, replace(SMALL, kl_weight=100.0))
    assert lab.measured["kl_nats"] < 0.05
    assert lab.measured["active_units"] == 0
    assert lab.measured["swapped_accuracy"] == pytest.approx(lab.measured["held_out_accuracy"], abs=0.03)
    unseen = lab.unseen(40)
    assert accuracy(fitted, unseen) == pytest.approx(accuracy(fitted, unseen, swapped=True), abs=0.03)


def test_the_order_of_the_shots_does_not_matter_but_their_labels_do() -> None:
    lab = PlantedLab()
    torch.manual_seed(0)
    model = vpl.Vpl(lab, vpl.Model(SIZE, SMALL))  # untrained, as a trained mu may stand at its bounds
    seen = lab.unseen(1)[0].seen
    permuted = Seen(tuple(seen.shots[n] for n in (2, 0, 3, 1)))
    mirrored = Seen(tuple(replace(s, chosen=s.rejected, rejected=s.chosen) for s in seen.shots))
    z, same, other = model.latent([seen, permuted, mirrored])
    assert 0.01 < z.abs().max() < 1
    torch.testing.assert_close(same, z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.reward(judged(permuted)), model.reward(judged(seen)), atol=1e-6)
    assert (other - z).abs().max() > 0.01


def test_latents_of_contexts_of_any_length(learnt: Learnt) -> None:
    lab, _ = learnt
    model = vpl.trained(lab, SMALL)
    seens = [Seen(e.seen.shots[:n]) for n, e in enumerate(lab.unseen(4), 1)]
    z = model.latent(seens)
    assert z.shape == (4, 32)
    assert z.abs().max() <= 1
    for seen, row in zip(seens, z, strict=True):
        torch.testing.assert_close(model.latent([seen])[0], row)


def test_the_bounded_reward_is_the_chance_to_win_against_the_comparison_set(learnt: Learnt) -> None:
    lab, _ = learnt
    model = vpl.trained(lab, SMALL)
    one, other = (e.seen for e in lab.unseen(2))
    items = [item for pair in zip(judged(one), judged(other), strict=True) for item in pair]
    bounded = np.array(model.reward(items))
    assert 0 < bounded.min() < bounded.max() < 1
    for seen, found in ((one, bounded[0::2]), (other, bounded[1::2])):
        z = model.latent([seen])
        points = torch.from_numpy(lab.hidden([(p, text) for _, p, text in judged(seen)], "last"))
        with torch.no_grad():
            r = model.model.rewards(points[None], z)[0]
            against = model.model.rewards(model.model.compared[None], z)[0]
        wins = [float(torch.sigmoid(x - against).mean()) for x in r]
        np.testing.assert_allclose(found, wins, atol=1e-5)


def test_a_training_context_tells_users_apart_where_it_can() -> None:
    rng = np.random.default_rng(0)
    for length in (2, 3, 4):
        draws = [vpl.drawn([False, True, False, True], length, rng) for _ in range(40)]
        assert all({1, 3} <= set(d) and len(set(d)) == length for d in draws)
    assert {tuple(vpl.drawn([False] * 3, 2, rng)[:1]) for _ in range(40)} == {(0,), (1,), (2,)}
    one, other = PlantedLab().unseen(2)
    shot = one.seen.shots[0]
    against = replace(shot, chosen=shot.rejected, rejected=shot.chosen)
    other = replace(other, queries=(against, *other.queries[1:]))
    assert vpl.disputed([one, other])[0] == [True, False, False, False]
    assert vpl.disputed([one])[0] == [False] * 4


def test_the_parts_of_the_elbo() -> None:
    mu, log_variance = torch.randn(3, 5), torch.rand(3, 5) * 2 - 1
    wanted = kl_divergence(Normal(mu, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(vpl.kl_to_prior(mu, log_variance), wanted)
    norms = vpl.sampled(mu, log_variance, torch.randn(3, 5)).norm(dim=-1)
    torch.testing.assert_close(norms, torch.full((3,), math.sqrt(5)))
    ramp = [vpl.annealed(step, 400) for step in range(400)]
    assert ramp[:100] == ramp[100:200] == ramp[300:]
    assert ramp[0] == pytest.approx(0.1)
    assert ramp[99] == pytest.approx(1, abs=0.01)
    assert sorted(ramp[:100]) == ramp[:100]


def test_trained_once(learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, fitted = learnt
    monkeypatch.setattr(vpl, "train", None)
    again = replace(lab, measured={})
    items = judged(lab.unseen(1)[0].seen)
    assert vpl.fit(again, SMALL).reward(items) == fitted.reward(items)
    assert again.measured == lab.measured


@pytest.mark.parametrize(
    ("key", "value"), [("episodes", 1), ("latent", 0), ("learning_rate", -1.0), ("kl_weight", -0.1)]
)
def test_a_bad_setting_is_named(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        vpl.Config(**{key: value})
