"""POPI: a summariser trained for how well the answerer does behind its summary (arXiv 2510.17881).

A summariser q writes a short preference summary z from the shots; a generator pi answers from the question
and z, without the shots. One objective trains both, the preference loss of the generator:

    min  E_{z ~ q(.|shots)} [ L_pref(x, y_w, y_l | z) ]

The generator takes its gradient; the summariser a policy gradient with the reward -L_pref. No description
is ever given.

    fspo-bench run --method popi --task roleplay
    fspo-bench run --method popi --task roleplay --set loss=dpo

Faithful: the objective, the shots hidden from the generator, summaries on-policy, no true description.
Differs: the two players take turns instead of steps together. First the generator is trained (Pref-FT, then
the preference loss against it) behind a sampled summary of the untouched summariser for each user; then the
summariser learns: every 12 steps it writes G summaries for each context anew, a summary's reward is minus
the mean loss over the episode's pairs, its advantage A the reward less the context's mean, over its
standard deviation. A step is a weighted likelihood, the gradient of sum A log q(z|shots) / tokens of z: a
summary below its context's mean has a negative weight and becomes less likely, a long one weighs no more
than a short one.
Samples come from the 128 likeliest tokens, no three in a row twice, cut after a whole sentence. Nothing ties
the summariser to where it started but a small rate and few steps. Only the abstract was at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fspo_bench.describe import (
    MEASURED,
    REQUEST,
    DescribeThenAnswer,
    describe,
    sample_descriptions,
    told,
)
from fspo_bench.lab import Lab, Lesson, TrainingEpisode, lesson_of
from fspo_bench.lm.losses import PREFERENCE_LOSSES, log_ratio_margin
from fspo_bench.lm.prompts import Context, Seen, shots_context
from fspo_bench.lm.train import Stage, two_stages

SEES = ("shots",)

SUMMARY_TOKENS = 64
AT_ONCE = 12  # steps of the summariser between samplings
ON_POLICY, HELD_BACK = 2, 3  # draws of episodes; the generator's are 0 and 1


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget."""

    loss: str = "ipo"
    """`ipo` or `dpo`: what the generator is trained by, and the summariser's reward."""
    samples: int = 4
    """G: summaries drawn behind a training context."""

    def __post_init__(self) -> None:
        if self.loss not in ("ipo", "dpo"):
            raise ValueError(f"loss is '{self.loss}', known: ipo, dpo")
        if self.samples < 2:
            raise ValueError(f"samples is {self.samples}, must be at least 2: the mean is the baseline")


@dataclass(frozen=True)
class Generator:
    """The trained answerer as a judge of summaries."""

    lab: Lab
    state: str
    reference: str
    stage: Stage

    def rewards(self, summarised: Sequence[tuple[TrainingEpisode, str]]) -> list[float]:
        """Minus the mean preference loss over each episode's pairs, behind this summary of its user."""
        lessons = [lesson_of(told(Context(), z), e.queries, self.stage) for e, z in summarised]
        policy = self.lab.logprobs(self.state, lessons, "summary rewards")
        reference = self.lab.logprobs(self.reference, lessons, "summary rewards (reference)")
        return [self._reward(*rows) for rows in zip(policy, reference, strict=True)]

    def _reward(self, logprobs: Sequence[float], before: Sequence[float]) -> float:
        policy, reference = (torch.tensor(row, dtype=torch.float64) for row in (logprobs, before))
        h = log_ratio_margin(policy[0::2], policy[1::2], reference[0::2], reference[1::2])
        return -float(PREFERENCE_LOSSES[self.stage.loss](h, self.stage.beta).mean())


def fit(lab: Lab, config: Config) -> DescribeThenAnswer:
    """Train the generator behind sampled summaries, then the summariser for the generator."""

    def contexts(episodes: Sequence[TrainingEpisode]) -> list[Context]:
        drawn = sample_descriptions(lab, lab.start, [e.seen for e in episodes], 1, SUMMARY_TOKENS)
        return [told(Context(), z) for (z,) in drawn]

    stages = two_stages(config.loss, lab.preset)
    state, reference = lab.train_stages(stages, contexts)
    generator = Generator(lab, state, reference, stages[1])
    summariser = train_summariser(lab, config, generator)
    _measure(lab, generator, summariser)
    lab.parameters *= 2  # the summariser's beside the generator's
    return DescribeThenAnswer(lab, summariser, _summary_alone, state, reference, SUMMARY_TOKENS)


def _summary_alone(seen: Seen, summary: str) -> Context:
    return told(Context(), summary)


def train_summariser(lab: Lab, config: Config, generator: Generator) -> str:
    """Policy gradient from where the run starts, sampling anew from the state reached; the trained state."""
    preset, state = lab.preset, lab.start
    episodes = lab.episodes(preset.contexts, ON_POLICY)
    size = AT_ONCE * preset.contexts_per_step
    for n in range(0, len(episodes), size):
        lessons = weighted_summaries(lab, config, generator, state, episodes[n : n + size])
        stage = Stage("sft", len(lessons), preset.lr, contexts_per_step=preset.contexts_per_step)
        state = lab.train(stage, lessons, state)
    return state


def weighted_summaries(
    lab: Lab, config: Config, generator: Generator, state: str, episodes: Sequence[TrainingEpisode]
) -> list[Lesson]:
    """G summaries of each episode's user by the summariser in a state, weighted by their advantages."""
    drawn = sample_descriptions(lab, state, [e.seen for e in episodes], config.samples, SUMMARY_TOKENS)
    rewards = generator.rewards([(e, z) for e, texts in zip(episodes, drawn, strict=True) for z in texts])
    weights = advantages(np.array(rewards).reshape(len(drawn), config.samples))
    return [
        Lesson(shots_context(e.seen), tuple((REQUEST, z) for z in texts), tuple(map(float, row)))
        for e, texts, row in zip(episodes, drawn, weights, strict=True)
    ]


def advantages(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each context's rewards (a row) less their mean, over their standard deviation; 0 if all are equal."""
    centred = rewards - rewards.mean(1, keepdims=True)
    spread = rewards.std(1, keepdims=True)
    scaled: NDArray[np.float64] = centred / np.where(spread > 1e-9, spread, np.inf)
    return scaled


def _measure(lab: Lab, generator: Generator, summariser: str) -> None:
    """Rewards of the greedy summaries of episodes that the summariser was not trained on; their length."""
    episodes = lab.episodes(MEASURED, HELD_BACK)
    for moment, state in (("before", lab.start), ("after", summariser)):
        summaries = describe(lab, state, [e.seen for e in episodes], SUMMARY_TOKENS)
        rewards = generator.rewards(list(zip(episodes, summaries, strict=True)))
        lab.measured[f"summary_reward_{moment}"] = float(np.mean(rewards))
        lab.measured[f"summary_tokens_{moment}"] = float(np.mean([lab.answer_tokens(z) for z in summaries]))
