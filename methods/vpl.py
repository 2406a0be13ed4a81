"""VPL: variational preference learning, a reward that knows a latent user (arXiv 2408.10075, NeurIPS 2024).

On frozen embeddings e(x, y) of the policy (last token), an encoder q reads the user's pairs C and gives
a Gaussian over z; a reward r(x, y, z) explains the user's labels of other pairs (negative ELBO):

    E_z~q(z|C) [-log sigmoid(r(x, y_w, z) - r(x, y_l, z))] + kl_weight s(t) KL(q(z|C) || N(0, I))

r is only known up to a scale that differs between users, so what others compare is the expected
probability to win against a comparison set B, within [0, 1] for every z (the paper's VPL-SPO):

    bounded r(x, y, z) = mean over y' in B of sigmoid(r(x, y, z) - r(y', z))

The answer is the candidate of the shared pool with the highest bounded reward behind z = mu.

    fspo-bench run --method vpl --task roleplay

Faithful: pair encoder (two hidden layers, LeakyReLU 0.2), one single-head self-attention over the pairs
without residual, mean over the pairs, mu and log sigma^2 clamped to [-1, 1], z rescaled to norm sqrt(d)
in training and mu as it is at test, KL summed over dimensions behind a cyclical cosine ramp from 0.1 to
1, contexts of varying length (at least 2) disjoint from the target, best of K. A training context begins
with pairs that training users label in both ways, two where its shots hold them, so that it tells users
apart; the rest of it is drawn from all shots (the paper: disputed pairs alone, also as targets and in
the test; here both hold what a test user meets). Differs: the reward is an MLP over [e; z] (the paper
fine-tunes the language model below e), embeddings are standardised, several targets share a sampled z,
four cycles of the ramp fill whatever budget there is, and B is a fixed sample of training answers, as B in
the paper is of its data: a set of the same prompt's answers would rank candidates the same, and would
have to be generated for every pair that is ranked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from fspo_bench.lab import Lab, TrainingEpisode, module_parameters
from fspo_bench.lm.prompts import Seen
from fspo_bench.progress import track
from fspo_bench.rewards import (
    BestOfK,
    Judged,
    by_user,
    embedded,
    embedded_episodes,
    embedded_shots,
    held_out,
    measure_ranking,
)

SEES = ("shots",)
CYCLES, FLOOR = 4, 0.1  # of the KL's ramp
COMPARED = 256  # answers in B
ACTIVE = 0.01  # from which variance of its mu between users on a latent dimension is in use


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget (`reward_steps`)."""

    episodes: int = 1000
    """Episodes of training users; a tenth of the users (not of the questions) is held out to measure on."""
    batch: int = 32
    """Episodes in a step."""
    width: int = 512
    """Of hidden layers."""
    latent: int = 512
    """Dimensions of z."""
    kl_weight: float = 1e-4
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        for key, least in {"episodes": 2, "batch": 1, "width": 1, "latent": 1}.items():
            if getattr(self, key) < least:
                raise ValueError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if not self.kl_weight >= 0:
            raise ValueError(f"kl_weight is {self.kl_weight}, must not be below 0")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0")


class Model(nn.Module):
    """The encoder of a user's pairs and the reward behind a latent user."""

    center: Tensor
    spread: Tensor
    compared: Tensor

    def __init__(self, size: int, config: Config) -> None:
        super().__init__()
        width, latent = config.width, config.latent
        self.pair = _mlp(2 * size, width, width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.mu, self.log_variance = nn.Linear(width, latent), nn.Linear(width, latent)
        self.reward = _mlp(size + latent, width, 1)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.register_buffer("compared", torch.zeros(COMPARED, size))

    def encode(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Mu and log sigma^2, (batch, latent), of contexts (batch, pairs, 2, size), chosen first."""
        pairs = self.pair(self._standard(context).flatten(2))
        scores = self.query(pairs) @ self.key(pairs).transpose(1, 2) / math.sqrt(pairs.shape[-1])
        pooled = (scores.softmax(-1) @ self.value(pairs)).mean(1)
        return self.mu(pooled).clamp(-1, 1), self.log_variance(pooled).clamp(-1, 1)

    def rewards(self, points: Tensor, z: Tensor) -> Tensor:
        """r, (batch, points), of answers (batch, points, size) for users z (batch, latent)."""
        users = z[:, None].expand(-1, points.shape[1], -1)
        r: Tensor = self.reward(torch.cat([self._standard(points), users], -1))[..., 0]
        return r

    def _standard(self, points: Tensor) -> Tensor:
        return (points - self.center) / self.spread


def _mlp(first: int, width: int, last: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(first, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, last),
    )  # fmt: skip


def kl_to_prior(mu: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) in nats, (batch,)."""
    return 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def annealed(step: int, steps: int) -> float:
    """s(t): a cosine ramp from the floor to 1, begun again in every cycle."""
    period = max(1, steps // CYCLES)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 - math.cos(math.pi * (step % period) / period))


def sampled(mu: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """z of training: drawn from q, rescaled to the norm that draws from the prior have."""
    z = mu + (0.5 * log_variance).exp() * noise
    scale: Tensor = math.sqrt(z.shape[-1]) / z.norm(dim=-1, keepdim=True)
    return z * scale


@dataclass(frozen=True)
class Vpl:
    """A trained model at work: latent users and their bounded rewards."""

    lab: Lab
    model: Model

    @torch.no_grad()
    def latent(self, seens: Sequence[Seen]) -> Tensor:
        """z = mu of each user, (users, latent)."""
        contexts = embedded_shots(self.lab, seens, "last")
        return torch.cat([self.model.encode(context[None])[0] for context in contexts])

    @torch.no_grad()
    def reward(self, items: Sequence[Judged]) -> list[float]:
        """The bounded reward of each answer for its user; z is found once a user."""
        points = torch.from_numpy(self.lab.hidden([(p, text) for _, p, text in items], "last"))
        places, found = by_user(items), np.zeros(len(items))
        for rows, z in zip(places.values(), self.latent(list(places)), strict=True):
            r = self.model.rewards(points[rows][None], z[None])[0].double()
            against = self.model.rewards(self.model.compared[None], z[None])[0].double()
            found[rows] = (r[:, None] - against).sigmoid().mean(1)
        return [float(x) for x in found]


def fit(lab: Lab, config: Config) -> BestOfK:
    """Train encoder and reward; answer by the bounded reward."""
    return BestOfK(lab, trained(lab, config).reward)


def trained(lab: Lab, config: Config) -> Vpl:
    """Train encoder and reward, or take them from the store, and measure them."""
    learnt, measured = held_out(lab.episodes(config.episodes, seed=0))
    size = embedded(lab, learnt[0].queries[:1], "last").shape[-1]
    model = Model(size, config)
    model.load_state_dict(lab.remembered("vpl", lambda: train(lab, config, learnt)))
    lab.parameters += module_parameters(model)
    lab.measured["disputed_shots"] = float(np.mean(np.concatenate(disputed(learnt))))
    measure(lab, model.eval(), measured)
    return Vpl(lab, model)


def train(lab: Lab, config: Config, episodes: Sequence[TrainingEpisode]) -> dict[str, Tensor]:
    """Each step draws episodes, a context length, and as many shots of each; its queries are the targets."""
    rng, steps = lab.rng("vpl"), lab.preset.reward_steps
    shots, queries = embedded_episodes(lab, episodes, "last")
    telling = disputed(episodes)
    points = torch.cat([*shots, *queries]).flatten(0, 1)
    noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)))
        model = Model(points.shape[-1], config)
    model.center.copy_(points.mean(0))
    model.spread.copy_(points.std(0) + 1e-6)
    model.compared.copy_(points[rng.integers(len(points), size=COMPARED)])
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    longest, most = min(map(len, shots)), lab.preset.queries
    for step in track(range(steps), "train vpl"):
        rows = rng.integers(len(episodes), size=config.batch)
        length = int(rng.integers(min(2, longest), longest + 1))
        context = torch.stack([shots[r][drawn(telling[r], length, rng)] for r in rows])
        targets = torch.stack([queries[r][rng.integers(len(queries[r]), size=most)] for r in rows])
        mu, log_variance = model.encode(context)
        z = sampled(mu, log_variance, torch.randn(mu.shape, generator=noise))
        r = model.rewards(targets.flatten(1, 2), z).unflatten(1, (-1, 2))
        pressure = config.kl_weight * annealed(step, steps) * kl_to_prior(mu, log_variance).mean()
        loss = pressure - logsigmoid(r[..., 0] - r[..., 1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.state_dict()


def disputed(episodes: Sequence[TrainingEpisode]) -> list[list[bool]]:
    """For each episode, which shots are pairs that another training user labels the other way round."""
    labels = {(p.question_id, p.chosen, p.rejected) for e in episodes for p in (*e.seen.shots, *e.queries)}
    return [[(s.question_id, s.rejected, s.chosen) in labels for s in e.seen.shots] for e in episodes]


def drawn(telling: Sequence[bool], length: int, rng: np.random.Generator) -> list[int]:
    """Places of a context's shots: two disputed ones if there are, then any."""
    order = [int(n) for n in rng.permutation(len(telling))]
    first = [n for n in order if telling[n]][:2]
    return [*first, *(n for n in order if n not in first)][:length]


@torch.no_grad()
def measure(lab: Lab, model: Model, episodes: Sequence[TrainingEpisode]) -> None:
    """The collapse monitor: an unused latent has no KL and no active units, and a swap costs nothing."""
    shots, queries = embedded_episodes(lab, episodes, "last")
    found = [model.encode(s[None]) for s in shots]
    mu, log_variance = (torch.cat(column) for column in zip(*found, strict=True))
    lab.measured["kl_nats"] = float(kl_to_prior(mu, log_variance).mean())
    lab.measured["active_units"] = float((mu.var(0, unbiased=False) > ACTIVE).sum())

    def margins(whose: Sequence[int]) -> list[Tensor]:
        rows = [
            model.rewards(q.flatten(0, 1)[None], mu[m][None]) for m, q in zip(whose, queries, strict=True)
        ]
        return [-r.unflatten(1, (-1, 2)).diff(dim=-1) for r in rows]

    measure_ranking(lab, episodes, margins)
