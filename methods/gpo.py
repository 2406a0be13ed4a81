"""GPO: group preference optimization, a transformer that reads a user's labelled answers (arXiv 2310.11523).

A neural process on frozen embeddings e(x, y) of the policy (mean over tokens), meta-trained over users.
Context points are answers with labels, [e; 1] chosen and [e; 0] rejected; target points are [e; 0]. A
transformer without positions, where every point attends to the context alone, gives each target a mean
and a standard deviation s. Within a pair the means are softmaxed into p, and the loss of labels l is

    - log N(l; p, s) - log p_w,   p = softmax(mean_w, mean_l),   l = (1, 0)

The answer is the candidate of the shared pool with the highest mean.

    fspo-bench run --method gpo --task roleplay

Faithful: meta-training over users with contexts of varying size, softmax within a question, Gaussian
log-likelihood, attention to the context alone (so its order cannot matter, and targets cannot see each
other), no dropout, Adam with a cosine, the paper's sizes. Differs: a point's label is one user's choice
(1 or 0) and not a group's probability, so the softmax runs over a pair, s, that would shrink without end
on such labels, has a floor of 0.05, and the cross-entropy of the choice is added to the paper's Gaussian
likelihood (alone, it did not leave chance at one of two step sizes on a planted task); a context holds 1
to `shots` pairs (the paper: 10 to 100 questions); the embeddings are standardised; the paper only
predicts, here the prediction picks an answer (best of K). The row "GPO" in FSPO's table is no GPO but
few-shot Pref-FT (`pref_ft`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from fspo_bench.lab import Lab, TrainingEpisode, module_parameters
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
STD_FLOOR = 0.05


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget (`reward_steps`)."""

    episodes: int = 1000
    """Episodes of training users; a tenth of the users (not of the questions) is held out to measure on."""
    batch: int = 32
    """Episodes in a step."""
    width: int = 128
    layers: int = 6
    heads: int = 4
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        for key, least in {"episodes": 2, "batch": 1, "width": 1, "layers": 1, "heads": 1}.items():
            if getattr(self, key) < least:
                raise ValueError(f"{key} is {getattr(self, key)}, must be at least {least}")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, must be a multiple of heads ({self.heads})")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0")


class NeuralProcess(nn.Module):
    """Labelled points and target points in, each target's mean and standard deviation out."""

    center: Tensor
    spread: Tensor

    def __init__(self, size: int, config: Config) -> None:
        super().__init__()
        width = config.width
        sizes = [size + 1, width, width, width, width]
        linear = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.embedder = nn.Sequential(*linear[:-1])
        layer = nn.TransformerEncoderLayer(width, config.heads, width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))

    def forward(self, context: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations, (batch, points).

        Args:
            context: a user's shots, (batch, pairs, 2, size), chosen before rejected.
            targets: answers, (batch, points, size).
        """
        shown = context.flatten(1, 2)
        labels = context.new_tensor([1.0, 0.0]).repeat(context.shape[1])
        labels = torch.cat([labels, labels.new_zeros(targets.shape[1])])
        points = (torch.cat([shown, targets], 1) - self.center) / self.spread
        tokens = self.embedder(torch.cat([points, labels.expand(len(points), -1)[..., None]], -1))
        hidden_from = torch.ones(len(labels), len(labels), dtype=torch.bool)
        hidden_from[:, : shown.shape[1]] = False
        states = self.encoder(tokens, mask=hidden_from)[:, shown.shape[1] :]
        mean, std = self.head(states).unbind(-1)
        return mean, STD_FLOOR + (1 - STD_FLOOR) * softplus(std)


def pair_loss(mean: Tensor, std: Tensor) -> Tensor:
    """Gaussian likelihood of the labels (1, 0) and cross-entropy; points stand (..., 2), chosen first."""
    label = mean.new_tensor([1.0, 0.0])
    log_prob: Tensor = torch.distributions.Normal(mean.softmax(-1), std).log_prob(label)
    return -log_prob.mean() - mean.log_softmax(-1)[..., 0].mean()


def fit(lab: Lab, config: Config) -> BestOfK:
    """Meta-train the transformer; answer by its means."""
    episodes = lab.episodes(config.episodes, seed=0)
    learnt, measured = held_out(episodes)
    size = embedded(lab, episodes[0].queries[:1], "mean").shape[-1]
    net = NeuralProcess(size, config)
    net.load_state_dict(lab.remembered("gpo", lambda: train(lab, config, learnt).state_dict()))
    lab.parameters += module_parameters(net)
    measure(lab, net.eval(), measured)
    return BestOfK(lab, lambda items: rewards(lab, net, items))


def train(lab: Lab, config: Config, episodes: Sequence[TrainingEpisode]) -> NeuralProcess:
    """Each step draws episodes, a context size, and as many shots of each; its queries are the targets."""
    rng, steps = lab.rng("gpo"), lab.preset.reward_steps
    shots, queries = embedded_episodes(lab, episodes, "mean")
    points = torch.cat([*shots, *queries]).flatten(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)))
        net = NeuralProcess(points.shape[-1], config)
    net.center.copy_(points.mean(0))
    net.spread.copy_(points.std(0) + 1e-6)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    longest, most = min(map(len, shots)), lab.preset.queries
    for _ in track(range(steps), "train gpo"):
        rows = rng.integers(len(episodes), size=config.batch)
        size = int(rng.integers(1, longest + 1))
        context = torch.stack([shots[r][rng.permutation(len(shots[r]))[:size]] for r in rows])
        targets = torch.stack([queries[r][rng.integers(len(queries[r]), size=most)] for r in rows])
        mean, std = net(context, targets.flatten(1, 2))
        loss = pair_loss(mean.unflatten(1, (-1, 2)), std.unflatten(1, (-1, 2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


@torch.no_grad()
def measure(lab: Lab, net: NeuralProcess, episodes: Sequence[TrainingEpisode]) -> None:
    """Accuracy behind own shots and behind another user's; how many s the labels lie from p."""
    shots, queries = embedded_episodes(lab, episodes, "mean")

    def predicted(whose: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every query behind the shots of the episodes given, (pairs, 2)."""
        rows = [net(shots[m][None], q.flatten(0, 1)[None]) for m, q in zip(whose, queries, strict=True)]
        mean, std = (torch.cat(column, 1)[0].unflatten(0, (-1, 2)) for column in zip(*rows, strict=True))
        return mean, std

    mean, std = predicted(range(len(episodes)))
    far = torch.tensor([1.0, 0.0]) - mean.softmax(-1)
    lab.measured["std_calibration"] = float((far / std).square().mean().sqrt())  # 1 is calibrated
    measure_ranking(lab, episodes, lambda whose: [-predicted(whose)[0].diff(dim=-1)])


@torch.no_grad()
def rewards(lab: Lab, net: NeuralProcess, items: Sequence[Judged]) -> list[float]:
    """The mean of each answer for its user; a user's answers go through the transformer together."""
    points = torch.from_numpy(lab.hidden([(prompt, text) for _, prompt, text in items], "mean"))
    places, found = by_user(items), np.zeros(len(items))
    contexts = embedded_shots(lab, list(places), "mean")
    for rows, context in zip(places.values(), contexts, strict=True):
        found[rows] = net(context[None], points[rows][None])[0][0]
    return [float(x) for x in found]
