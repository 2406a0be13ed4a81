"""RiC: rewards-in-context, a policy that is asked for attribute scores (arXiv 2402.10207, ICML 2024).

K scorers say how much of each attribute an answer y has. Supervised fine-tuning teaches the policy to
write the answer whose scores stand in its prompt, and a user gets the scores that suit the user:

    train:   max log pi(y | x, s(y)),   s_i = (score_i - mean_i) / sd_i, with one decimal
    answer:  pi(. | x, t_u),            t_i = centre_i + (w_i / ||w||_2) halfrange_i,   w = w_u

    fspo-bench run --method ric --task roleplay

The adaptation to users known by a few shots (FSPO's table has a RIC row, and nothing of how it was
made): K = 4 scorers that see no label: length (log words), reading grade (Flesch-Kincaid), and
sentiment and personal tone, each the cosine of the answer's sentence embedding to one short group of
sentences less that to the opposite group. w_u is the ridge-logistic regression of a user's labels on
the score differences of the shots; w_u . s(y) ranks the user's pairs.

Faithful: both answers of every pair, z-scores by mean and sd of the training answers throughout, loss
on the answer alone, Pareto-biased targets online (all coordinates but the smallest at the maximum),
samples at T = 0.7 and top-p 0.9, relabelled with the scores obtained, rejected below the 0.7 quantile,
half as many originals (filtered alike) as prompts mixed in, accumulating rounds, the L2 map. Differs: a
user may dislike an attribute, so w may be negative, targets start from the centre of the range instead
of its low end, and random signs turn coordinates of the online targets, and with each the side on which
a score must lie to be kept; extremes are those of the training answers (of 1e5 normal draws there);
text under three words counts as degenerate; the online rate is a tenth, decaying; AdamW, and LoRA as in
the preset. The original cuts a prompt before it adds scores, and takes characters of the question with
it; here nothing is cut.

Measured: `kept_share` of the online samples, and, per attribute, `asked_obtained_ATTRIBUTE`, the
correlation of what was asked with what was obtained.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fspo_bench.data.tasks import Preference
from fspo_bench.lab import Lab, Lesson, Reply
from fspo_bench.lm.prompts import Context, Seen
from fspo_bench.lm.train import Stage

SEES = ("shots",)
ATTRIBUTES = ("length", "grade", "sentiment", "personal")
TEMPERATURE, TOP_P = 0.7, 0.9
LEAST_WORDS = 3

Array = NDArray[np.float64]

POLES = (
    ("This is wonderful and I love it.", "A delightful, excellent and joyful thing.",
     "It went well and everybody was happy."),
    ("This is terrible and I hate it.", "A dreadful, boring and miserable thing.",
     "It went badly and everybody was upset."),
    ("I know how you feel, my friend; tell me about it.",
     "When it happened to me, I called my sister and we laughed.",
     "You and I can do this together, and I am here for you."),
    ("The procedure consists of several steps.", "According to the report, the rate rose by a tenth.",
     "The device is to be stored in a dry place."),
)  # fmt: skip
"""Praise, criticism; personal, impersonal."""


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget."""

    rounds: int = 1
    """Online rounds after the offline stage (1 or 2 in the paper)."""
    quantile: float = 0.7
    """An online sample is kept if one of its scores is beyond this quantile on the side asked for."""
    online_rate: float = 0.1
    """Learning rate of the online stages, as a share of `sft_lr`."""
    ridge: float = 1.0
    """Weight of the penalty on a user's weights: (ridge / 2) ||w||^2."""

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ValueError(f"rounds is {self.rounds}, must be at least 0")
        if not 0 <= self.quantile < 1:
            raise ValueError(f"quantile is {self.quantile}, must be at least 0 and below 1")
        for key in ("online_rate", "ridge"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} is {getattr(self, key)}, must be above 0")


def attributes(lab: Lab, texts: Sequence[str]) -> Array:
    """Raw scores, shape (texts, K); no label and no user goes into them."""
    vectors = lab.sentences([*texts, *chain(*POLES)]).astype(np.float64)
    praise, criticism, personal, impersonal = vectors[len(texts) :].reshape(4, -1, vectors.shape[1]).mean(1)
    length = [np.log(max(1, len(text.split()))) for text in texts]
    grade = [reading_grade(text) for text in texts]
    tones = vectors[: len(texts)] @ np.stack([praise - criticism, personal - impersonal], axis=1)
    return np.column_stack([length, grade, tones])


def reading_grade(text: str) -> float:
    """Flesch-Kincaid grade: the years of school that reading it takes (0 without a word)."""
    words = re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?", text.lower())
    if not words:
        return 0.0
    sentences = max(1, len(re.findall(r"[.!?]+(?=\s|$)", text)))
    return 0.39 * len(words) / sentences + 11.8 * sum(map(_syllables, words)) / len(words) - 15.59


def _syllables(word: str) -> int:
    """Groups of vowels, without a silent e at the end."""
    groups = len(re.findall("[aeiouy]+", word))
    silent = groups > 1 and re.search("[^aeiouyl]e$", word) is not None
    return max(1, groups - silent)


@dataclass(frozen=True)
class Scale:
    """Where the training answers' scores lie: every score and every target is in its units."""

    mean: Array
    sd: Array
    low: Array
    """Extremes of the training answers, as z-scores."""
    high: Array

    @classmethod
    def of(cls, raw: Array) -> Scale:
        sd = raw.std(0)
        mean, sd = raw.mean(0), np.where(sd > 1e-9, sd, 1.0)  # what never differs stays at 0
        return cls(mean, sd, (raw.min(0) - mean) / sd, (raw.max(0) - mean) / sd)

    def z(self, raw: Array) -> Array:
        return (raw - self.mean) / self.sd


@dataclass(frozen=True)
class Scored:
    """An answer and its z-scores."""

    prompt: str
    text: str
    z: Array


def with_scores(prompt: str, z: Array) -> str:
    """The question and the scores that its answer is to have. Only added to, never cut out again."""
    scores = (f"<{name}> {round(float(x), 1) + 0.0:.1f}" for name, x in zip(ATTRIBUTES, z, strict=True))
    return f"{prompt}\n{' '.join(scores)}"


def fit(lab: Lab, config: Config) -> RiC:
    """Offline on all training answers, then online rounds on what the policy itself writes."""
    preset = lab.preset
    pairs = [q for e in lab.episodes(preset.sft_contexts, 0, shots=0) for q in e.queries]
    given = [(q.prompt, text) for q in pairs for text in (q.chosen, q.rejected)]
    raw = attributes(lab, [text for _, text in given])
    scale = Scale.of(raw)
    originals = [Scored(p, text, z) for (p, text), z in zip(given, scale.z(raw), strict=True)]
    state = learn(lab, originals, preset.sft_lr, lab.start)
    online: list[Scored] = []
    for number in range(config.rounds):
        rng = lab.rng("ric", number)
        prompts = [q.prompt for e in lab.episodes(preset.contexts, 1 + number, shots=0) for q in e.queries]
        online += explore(lab, scale, state, prompts, config.quantile, rng)
        signs = rng.choice([-1.0, 1.0], (len(originals), len(ATTRIBUTES)))
        front = frontier(originals, signs, config.quantile)
        mixed = [*online, *_shuffled(front, rng)[: max(1, len(prompts) // 2)]]
        state = learn(lab, _shuffled(mixed, rng), preset.sft_lr * config.online_rate, state)
    return RiC(lab, scale, state, config.ridge)


def learn(lab: Lab, rows: Sequence[Scored], lr: float, start: str) -> str:
    """Fit each answer behind its question and its own scores; returns the trained state."""
    items = [(with_scores(row.prompt, row.z), row.text) for row in rows]
    size = 2 * lab.preset.queries
    lessons = [Lesson(Context(), tuple(items[n : n + size])) for n in range(0, len(items), size)]
    stage = Stage("sft", len(lessons), lr, contexts_per_step=lab.preset.contexts_per_step)
    return lab.train(stage, lessons, start)


def explore(
    lab: Lab, scale: Scale, state: str, prompts: Sequence[str], quantile: float, rng: np.random.Generator
) -> list[Scored]:
    """Ask near the front for each prompt; what is kept bears the scores obtained, not those asked for."""
    asked, signs = pareto_targets(scale, len(prompts), rng)
    questions = [(Context(), with_scores(p, t)) for p, t in zip(prompts, asked, strict=True)]
    texts = [s[0] for s in lab.sample(state, questions, 1, "online samples", TEMPERATURE, TOP_P)]
    sound = np.array([len(text.split()) >= LEAST_WORDS for text in texts], dtype=bool)
    written = [(p, text) for p, text, good in zip(prompts, texts, sound, strict=True) if good]
    obtained = scale.z(attributes(lab, [text for _, text in written]))
    kept = frontier(
        [Scored(p, text, z) for (p, text), z in zip(written, obtained, strict=True)], signs[sound], quantile
    )
    lab.measured["kept_share"] = len(kept) / len(prompts)
    for name, ask, got in zip(ATTRIBUTES, asked[sound].T, obtained.T, strict=True):
        if len(got) and ask.std() > 0 and got.std() > 0:
            lab.measured[f"asked_obtained_{name}"] = float(np.corrcoef(ask, got)[0, 1])
    return kept


def pareto_targets(scale: Scale, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Scores to ask for, and the sign of each attribute's direction, both of shape (n, K).

    Places are uniform in each attribute's range; all but the smallest move to the end that is asked for.
    """
    places = rng.random((n, len(ATTRIBUTES)))
    places[places > places.min(1, keepdims=True)] = 1.0
    signs = rng.choice([-1.0, 1.0], places.shape)
    places = np.where(signs > 0, places, 1 - places)
    return scale.low + places * (scale.high - scale.low), signs


def frontier(rows: Sequence[Scored], signs: Array, quantile: float) -> list[Scored]:
    """The rows with any score among the rows' highest, or where the sign is negative among the lowest."""
    if not rows:
        return []
    z = np.stack([row.z for row in rows])
    high, low = np.quantile(z, quantile, axis=0), np.quantile(z, 1 - quantile, axis=0)
    beyond = np.where(signs > 0, z >= high, z <= low)
    return [row for row, sides in zip(rows, beyond, strict=True) if sides.any()]


def _shuffled(rows: Sequence[Scored], rng: np.random.Generator) -> list[Scored]:
    return [rows[n] for n in rng.permutation(len(rows))]


def taste(differences: Array, ridge: float) -> Array:
    """Weights w that minimise sum log(1 + exp(-w . d)) + (ridge / 2) ||w||^2, d = chosen less rejected."""
    w = np.zeros(differences.shape[1])
    for _ in range(30):  # Newton's method
        p = 1 / (1 + np.exp(differences @ w))
        gradient = ridge * w - differences.T @ p
        hessian = ridge * np.eye(len(w)) + (differences.T * (p * (1 - p))) @ differences
        w = w - np.linalg.solve(hessian, gradient)
    return w


def target(scale: Scale, w: Array) -> Array:
    """The L2 map from a user's weights to scores: a user of one attribute alone gets its extreme."""
    centre, half = (scale.high + scale.low) / 2, (scale.high - scale.low) / 2
    return centre + w / (np.linalg.norm(w) or 1.0) * half


@dataclass(frozen=True)
class RiC:
    """Answers at the scores that suit a user, and ranks by the user's weighted score."""

    lab: Lab
    scale: Scale
    state: str
    ridge: float

    def weights(self, users: Sequence[Seen]) -> dict[Seen, Array]:
        """Each user's weights, from the shots."""
        distinct = list(dict.fromkeys(users))
        rows = iter(self._differences([shot for seen in distinct for shot in seen.shots]))
        shape = (-1, len(ATTRIBUTES))
        return {s: taste(np.reshape([next(rows) for _ in s.shots], shape), self.ridge) for s in distinct}

    def answer(self, asked: Sequence[tuple[Seen, str]]) -> list[Reply]:
        targets = {seen: target(self.scale, w) for seen, w in self.weights([s for s, _ in asked]).items()}
        questions = [(Context(), with_scores(prompt, targets[seen])) for seen, prompt in asked]
        return [Reply(text) for text in self.lab.write(self.state, questions)]

    def margins(self, pairs: Sequence[tuple[Seen, Preference]]) -> list[float]:
        weights = self.weights([seen for seen, _ in pairs])
        differences = self._differences([pair for _, pair in pairs])
        return [float(weights[seen] @ d) for (seen, _), d in zip(pairs, differences, strict=True)]

    def _differences(self, pairs: Sequence[Preference]) -> Array:
        """Scores of the chosen answers less those of the rejected ones, shape (pairs, K)."""
        z = self.scale.z(attributes(self.lab, [text for p in pairs for text in (p.chosen, p.rejected)]))
        return z[0::2] - z[1::2]
