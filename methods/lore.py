"""LoRe: low-rank rewards, a user is a mixture of a few shared reward directions (arXiv 2504.14439).

On frozen embeddings phi(x, y) of the policy (last token), with V of K directions shared by everybody
and a weight vector w_u of each user:

    r_u(x, y) = softmax(w_u) . V^T phi(x, y)
    loss = -log sigmoid(r_u(x, y_w) - r_u(x, y_l)) + pull a(t) mean_k (1 - cos(V_k, v))

v is the population's direction, a(t) a ramp over the middle of training. Adam steps on W and on V take
turns. For a new user V is frozen and w_u alone is fitted, to the shots. The answer is the candidate of
the shared pool with the highest r_u.

    fspo-bench run --method lore --task roleplay

Faithful: softmax mixtures of shared directions, frozen embeddings, alternating Adam steps, the pull
towards a general reward ramped from 20% to 80% of training, directions that no user gives a hundredth
pruned, V frozen for new users, best of K. Differs: phi is the policy's own last layer, standardised and
divided by sqrt(size) (the paper: that of a strong general reward model, divided by 100), so v, in the
paper that model's head, is a Bradley-Terry fit (K = 1) to all training users, from which V starts; `pull`
is weighed against a mean loss; a new user's w_u starts at the training users' mean and a Gaussian prior
holds it there, since four shots cannot tell K weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, softplus

from fspo_bench.data.tasks import Preference
from fspo_bench.lab import Lab, TrainingEpisode, module_parameters
from fspo_bench.lm.prompts import Seen
from fspo_bench.progress import track
from fspo_bench.rewards import BestOfK, Judged, embedded, held_out, measure_ranking

SEES = ("shots",)
LEAST_WEIGHT = 0.01  # a direction that no training user gives so much is pruned
SHOT_STEPS, SHOT_RATE = 100, 0.1  # of a new user's fit


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget (`reward_steps`)."""

    episodes: int = 1000
    """Episodes of training users; a tenth of the users (not of the questions) is held out to measure on."""
    bases: int = 10
    """K, the shared directions."""
    pull: float = 0.01
    """Weight of the pull towards the population's direction."""
    prior: float = 0.05
    """Weight of a new user's prior: half the inverse variance of w_u around the mean."""
    basis_rate: float = 1e-2
    """Step size of V, and of the population's direction."""
    weight_rate: float = 1e-2
    """Step size of W."""

    def __post_init__(self) -> None:
        for key, least in {"episodes": 2, "bases": 1}.items():
            if getattr(self, key) < least:
                raise ValueError(f"{key} is {getattr(self, key)}, must be at least {least}")
        for key in ("pull", "prior"):
            if not getattr(self, key) >= 0:
                raise ValueError(f"{key} is {getattr(self, key)}, must not be below 0")
        for key in ("basis_rate", "weight_rate"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} is {getattr(self, key)}, must be above 0")


@dataclass(frozen=True)
class Lore:
    """Shared directions (K, size) in units of `spread` (size,), and the mean w of training users (K,)."""

    lab: Lab
    bases: Tensor
    spread: Tensor
    mean: Tensor
    prior: float

    def scores(self, points: Tensor) -> Tensor:
        """V^T phi, (points, K); no centre is taken off, as a constant ranks nothing."""
        return points / self.spread @ self.bases.T

    def weights(self, gaps: Tensor) -> Tensor:
        """softmax(w_u), (K,), of a user whose shots are apart by `gaps` (shots, size)."""
        w = self.mean.clone().requires_grad_()
        optimizer = torch.optim.Adam([w], lr=SHOT_RATE)
        apart = self.scores(gaps)
        for _ in range(SHOT_STEPS):
            fit = softplus(-(apart @ w.softmax(-1))).sum() + self.prior * (w - self.mean).square().sum()
            optimizer.zero_grad()
            fit.backward()
            optimizer.step()
        return w.detach().softmax(-1)

    def reward(self, items: Sequence[Judged]) -> list[float]:
        """r_u of each answer for its user; w_u is fitted once a user."""
        points = torch.from_numpy(self.lab.hidden([(p, text) for _, p, text in items], "last"))
        seens = list(dict.fromkeys(seen for seen, _, _ in items))
        apart = gaps(self.lab, [shot for seen in seens for shot in seen.shots])
        parts = apart.split([len(seen.shots) for seen in seens])
        fitted: dict[Seen, Tensor] = dict(zip(seens, map(self.weights, parts), strict=True))
        r = (self.scores(points) * torch.stack([fitted[seen] for seen, _, _ in items])).sum(-1)
        return [float(x) for x in r]


def fit(lab: Lab, config: Config) -> BestOfK:
    """Find the shared directions; answer by each user's mixture of them."""
    return BestOfK(lab, trained(lab, config).reward)


def trained(lab: Lab, config: Config) -> Lore:
    """Find the shared directions, or take them from the store, and measure them."""
    learnt, measured = held_out(lab.episodes(config.episodes, seed=0))
    found = lab.remembered("lore", lambda: train(lab, config, learnt))
    lab.parameters += module_parameters(found["bases"], found["weights"], found["population"])
    lore = Lore(lab, found["bases"], found["spread"], found["weights"].mean(0), config.prior)
    measure(lore, found["weights"].softmax(-1), measured)
    return lore


def train(lab: Lab, config: Config, episodes: Sequence[TrainingEpisode]) -> dict[str, Tensor]:
    """All labels of all training users at once; a step of W, then one of V."""
    preferences = [p for e in episodes for p in (*e.seen.shots, *e.queries)]
    number = {user: n for n, user in enumerate(dict.fromkeys(e.user_id for e in episodes))}
    sizes = torch.tensor([len(e.seen.shots) + len(e.queries) for e in episodes])
    whose = torch.tensor([number[e.user_id] for e in episodes]).repeat_interleave(sizes)
    spread = embedded(lab, preferences, "last").flatten(0, 1).std(0) + 1e-6
    spread = spread * len(spread) ** 0.5
    apart = gaps(lab, preferences) / spread
    v = population(apart, config, lab.preset.reward_steps)
    noise = torch.from_numpy(lab.rng("lore").normal(size=(config.bases, len(v)))).float()
    bases = (v + noise * v.std()).requires_grad_()
    weights = torch.zeros(len(number), config.bases, requires_grad=True)
    turns = (
        torch.optim.Adam([weights], lr=config.weight_rate),
        torch.optim.Adam([bases], lr=config.basis_rate),
    )
    for step in track(range(lab.preset.reward_steps), "train lore"):
        pull = config.pull * ramp(step / lab.preset.reward_steps)
        for turn in turns:
            margins = (weights.softmax(-1)[whose] * (apart @ bases.T)).sum(-1)
            loss = softplus(-margins).mean() + pull * (1 - cosine_similarity(bases, v[None])).mean()
            for optimizer in turns:
                optimizer.zero_grad()
            loss.backward()
            turn.step()
    most = weights.detach().softmax(-1).amax(0)
    used = most >= min(LEAST_WEIGHT, float(most.max()))
    return {"bases": bases[used], "weights": weights[:, used], "population": v, "spread": spread}


def ramp(share: float) -> float:
    """a(t): 0 in the first fifth of training, 1 in the last, straight between."""
    return min(1.0, max(0.0, (share - 0.2) / 0.6))


def population(apart: Tensor, config: Config, steps: int) -> Tensor:
    """One direction for everybody (K = 1, Bradley-Terry)."""
    v = torch.zeros(apart.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([v], lr=config.basis_rate)
    for _ in range(steps):
        loss = softplus(-(apart @ v)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return v.detach()


def gaps(lab: Lab, preferences: Sequence[Preference]) -> Tensor:
    """Chosen minus rejected, (preferences, size)."""
    points = embedded(lab, preferences, "last")
    return points[:, 0] - points[:, 1]


def measure(lore: Lore, usage: Tensor, episodes: Sequence[TrainingEpisode]) -> None:
    """How many directions are used and how evenly; accuracy behind own shots and another user's."""
    lab, mean = lore.lab, usage.mean(0)
    lab.measured["bases_kept"] = float(len(mean))
    lab.measured["bases_effective"] = float(torch.distributions.Categorical(mean).entropy().exp())
    lab.measured["largest_basis_share"] = float(mean.max())
    fitted = [lore.weights(gaps(lab, e.seen.shots)) for e in episodes]
    queries = [lore.scores(gaps(lab, e.queries)) for e in episodes]
    measure_ranking(lab, episodes, lambda whose: [q @ fitted[m] for m, q in zip(whose, queries, strict=True)])
