"""FSPO+RAT: describe the user from the shots, then answer behind shots and description.

RAT comes from the second version of FSPO's paper (arXiv 2502.19312, ICLR 2026). A describer writes a
description d of the user from the shots; the answerer is FSPO with d in its context. The describer learns
from its own samples: of those drawn behind a training user's shots, the one nearest to the user's true
description is preferred to the farthest (the same losses as for answers, eq. 5 and 6, on expert-steered
pairs):

    h = [log pi(d_near|shots) - log ref(d_near|shots)] - [log pi(d_far|shots) - log ref(d_far|shots)]
    ipo: (h - 1/(2 beta))^2          dpo: -log sigmoid(beta h)

    fspo-bench run --method fspo_rat --task roleplay
    fspo-bench run --method fspo_rat --task roleplay --set train_on=own

Faithful: description pairs from on-policy samples, ranked by closeness in meaning to the true description;
two steps at test, the description by the describer alone; the answerer is trained behind the true
description, as the paper's first version forces it. Only training users' descriptions are read (on tasks with
few fixed users these are the users of the test as well).
Differs, where the paper is silent: four samples a training context at temperature 1 (as everywhere here, from
the 128 likeliest tokens, no three in a row twice, cut after a whole sentence); closeness is the cosine of
MiniLM embeddings; one pair a context, dropped if its two sides differ by less than `margin`; a warm-up on
the true descriptions, which is also the reference; describer and answerer are two sets of weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fspo_bench.describe import (
    MEASURED,
    REQUEST,
    DescribeThenAnswer,
    describe,
    sample_descriptions,
    shots_and_description,
)
from fspo_bench.errors import UserError
from fspo_bench.lab import Lab, Lesson, TrainingEpisode
from fspo_bench.lm.prompts import Context, shots_context
from fspo_bench.lm.train import two_stages

SEES = ("shots", "train_descriptions")

WARM_UP, ON_POLICY, HELD_BACK = 2, 3, 4  # draws of episodes; the answerer's are 0 and 1


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget."""

    loss: str = "ipo"
    """`ipo` or `dpo`, for descriptions and answers alike."""
    samples: int = 4
    """Descriptions drawn behind a training context."""
    margin: float = 0.05
    """By how much more alike the true description the nearest must be than the farthest (cosine)."""
    train_on: str = "true"
    """Which description the answerer is trained behind: the `true` one or the describer's `own`."""

    def __post_init__(self) -> None:
        if self.loss not in ("ipo", "dpo"):
            raise ValueError(f"loss is '{self.loss}', known: ipo, dpo")
        if self.samples < 2:
            raise ValueError(f"samples is {self.samples}, must be at least 2: a pair needs two")
        if not 0 < self.margin < 2:
            raise ValueError(f"margin is {self.margin}, must be above 0 and below 2")
        if self.train_on not in ("true", "own"):
            raise ValueError(f"train_on is '{self.train_on}', known: true, own")


def fit(lab: Lab, config: Config) -> DescribeThenAnswer:
    """Train the describer, then the answerer behind its descriptions or the true ones."""
    describer = train_describer(lab, config)

    def contexts(episodes: Sequence[TrainingEpisode]) -> list[Context]:
        own = describe(lab, describer, [e.seen for e in episodes]) if config.train_on == "own" else None
        written = own or [e.description for e in episodes]
        return [shots_and_description(e.seen, text) for e, text in zip(episodes, written, strict=True)]

    state, reference = lab.train_stages(two_stages(config.loss, lab.preset), contexts)
    lab.parameters *= 2  # the describer's beside the answerer's
    return DescribeThenAnswer(lab, describer, shots_and_description, state, reference)


def train_describer(lab: Lab, config: Config) -> str:
    """Warm-up on true descriptions, then the preference loss on pairs of its own; the trained state."""
    sft, preference = two_stages(config.loss, lab.preset)
    warm_up, on_policy, held_back = _described_episodes(lab, sft.contexts, preference.contexts)
    warm = lab.train(sft, [_lesson(e, e.description) for e in warm_up])
    lab.measured["description_similarity_before"], _ = similarity(lab, warm, held_back)

    drawn = sample_descriptions(lab, warm, [e.seen for e in on_policy], config.samples)
    lessons = pair_lessons(lab, on_policy, drawn, config.margin)
    lab.measured["descriptions_sampled"] = float(sum(map(len, drawn)))
    lab.measured["description_pairs"] = float(len(lessons))
    trained = lab.train(preference, lessons, warm) if lessons else warm
    own, another = similarity(lab, trained, held_back)
    lab.measured["description_similarity_true"] = own
    if another is not None:
        lab.measured["description_similarity_random"] = another
    return trained


def _described_episodes(lab: Lab, *sizes: int) -> tuple[list[TrainingEpisode], ...]:
    """Episodes for the warm-up and the sampling, and those of other users to measure the describer on.

    Where the users are few and fixed, none can be spared: they are measured with other shots.
    """
    warm_up, on_policy, held_back = (
        [e for e in lab.episodes(n, seed, queries=1) if e.description]
        for n, seed in zip((*sizes, MEASURED), (WARM_UP, ON_POLICY, HELD_BACK), strict=True)
    )
    if not (warm_up and on_policy and held_back):
        raise UserError(
            "method 'fspo_rat' learns from the true descriptions of training users; this task has none"
        )
    spared = {e.user_id for e in held_back}
    drawn = [*warm_up, *on_policy]
    if sum(e.user_id in spared for e in drawn) > len(drawn) / 2:
        spared = set()
    rest = [[e for e in part if e.user_id not in spared] for part in (warm_up, on_policy)]
    if all(rest):
        warm_up, on_policy = rest
    else:
        spared = set()
    lab.measured["description_users_held_back"] = float(len(spared))
    return warm_up, on_policy, held_back


def _lesson(episode: TrainingEpisode, *descriptions: str) -> Lesson:
    return Lesson(shots_context(episode.seen), tuple((REQUEST, text) for text in descriptions))


def pair_lessons(
    lab: Lab, episodes: Sequence[TrainingEpisode], drawn: Sequence[Sequence[str]], margin: float
) -> list[Lesson]:
    """For each episode the nearest of its samples to the true description, preferred to the farthest."""
    truths = lab.sentences([e.description for e in episodes])
    vectors = iter(lab.sentences([text for texts in drawn for text in texts]))
    lessons = []
    for e, truth, texts in zip(episodes, truths, drawn, strict=True):
        closeness = [float(next(vectors) @ truth) for _ in texts]
        near, far = int(np.argmax(closeness)), int(np.argmin(closeness))
        if closeness[near] - closeness[far] >= margin:
            lessons.append(_lesson(e, texts[near], texts[far]))
    return lessons


def similarity(lab: Lab, state: str, episodes: Sequence[TrainingEpisode]) -> tuple[float, float | None]:
    """Mean cosine of what the describer writes to the user's true description, and to other users'."""
    written = lab.sentences(describe(lab, state, [e.seen for e in episodes]))
    cosines = written @ lab.sentences([e.description for e in episodes]).T
    users = np.array([e.user_id for e in episodes])
    others = users[:, None] != users[None, :]
    return float(cosines.diagonal().mean()), float(cosines[others].mean()) if others.any() else None
