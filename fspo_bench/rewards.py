"""What methods share that learn a reward and answer with the best of K candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fspo_bench.data.tasks import Preference
from fspo_bench.lab import Lab, Reply, TrainingEpisode
from fspo_bench.lm.embed import Pooling
from fspo_bench.lm.prompts import Seen

Judged = tuple[Seen, str, str]  # for this user: the prompt, an answer
Reward = Callable[[Sequence[Judged]], Sequence[float]]


@dataclass(frozen=True)
class BestOfK:
    """Answers with the candidate of the shared pool that a user's reward puts first."""

    lab: Lab
    reward: Reward

    def answer(self, asked: Sequence[tuple[Seen, str]]) -> list[Reply]:
        pool = self.lab.candidates([prompt for _, prompt in asked])
        rewards = iter(self.reward([(seen, p, text) for seen, p in asked for text in pool[p]]))
        return [Reply(max(pool[p], key=lambda _: next(rewards))) for _, p in asked]

    def margins(self, pairs: Sequence[tuple[Seen, Preference]]) -> list[float]:
        both = [(seen, p.prompt, text) for seen, p in pairs for text in (p.chosen, p.rejected)]
        rewards = [float(r) for r in self.reward(both)]
        return [rewards[n] - rewards[n + 1] for n in range(0, len(rewards), 2)]


def by_user(items: Sequence[Judged]) -> dict[Seen, list[int]]:
    """The places of each user's items."""
    places: dict[Seen, list[int]] = {}
    for n, (seen, _, _) in enumerate(items):
        places.setdefault(seen, []).append(n)
    return places


Pairs = Tensor  # embeddings of preferences, (pairs, 2, size): chosen, rejected


def embedded(lab: Lab, preferences: Sequence[Preference], pooling: Pooling) -> Pairs:
    """Frozen embeddings of preferences."""
    texts = [(p.prompt, text) for p in preferences for text in (p.chosen, p.rejected)]
    points: Pairs = torch.from_numpy(lab.hidden(texts, pooling)).unflatten(0, (-1, 2))
    return points


def embedded_shots(lab: Lab, seens: Sequence[Seen], pooling: Pooling) -> list[Pairs]:
    """The shots of each user."""
    every = embedded(lab, [shot for seen in seens for shot in seen.shots], pooling)
    return list(every.split([len(seen.shots) for seen in seens]))


def embedded_episodes(
    lab: Lab, episodes: Sequence[TrainingEpisode], pooling: Pooling
) -> tuple[list[Pairs], list[Pairs]]:
    """The shots of each episode, and the queries of each."""
    queries = embedded(lab, [q for e in episodes for q in e.queries], pooling)
    shots = embedded_shots(lab, [e.seen for e in episodes], pooling)
    return shots, list(queries.split([len(e.queries) for e in episodes]))


def held_out(episodes: Sequence[TrainingEpisode]) -> tuple[list[TrainingEpisode], list[TrainingEpisode]]:
    """What is learnt from and what is held out: a tenth of the users, or of the episodes of few users.

    Users are held out, their questions are not: what is measured on them reads high where questions are few.
    """
    users = list(dict.fromkeys(e.user_id for e in episodes))
    kept = set(users[: len(users) // 10])
    if not kept:
        last = -max(1, len(episodes) // 10)
        return list(episodes[:last]), list(episodes[last:])
    return [e for e in episodes if e.user_id not in kept], [e for e in episodes if e.user_id in kept]


Margins = Callable[[Sequence[int]], Iterable[Tensor]]
"""For each episode the margins of its queries, above 0 where ranked right, behind the shots of the episode
whose place is given for it."""


def measure_ranking(lab: Lab, episodes: Sequence[TrainingEpisode], margins: Margins) -> None:
    """Note how often the queries are ranked right, behind own shots and behind another user's."""

    def accuracy(whose: Sequence[int]) -> float:
        return float((torch.cat(list(margins(whose))) > 0).float().mean())

    lab.measured["held_out_accuracy"] = accuracy(range(len(episodes)))
    if others := another_user(episodes):
        lab.measured["swapped_accuracy"] = accuracy(others)


def another_user(episodes: Sequence[TrainingEpisode]) -> list[int] | None:
    """For each episode the place of another user's, the next one round; None if all are of one user."""
    users = [e.user_id for e in episodes]
    places = [
        next((m for m in [*range(n, len(users)), *range(n)] if users[m] != user), None)
        for n, user in enumerate(users)
    ]
    return None if None in places else [m for m in places if m is not None]
