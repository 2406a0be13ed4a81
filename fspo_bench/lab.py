"""What a method works with: training users, the policy, frozen embeddings, a pool of candidates.

A method's `fit(lab, config)` trains whatever it trains and returns a `Personal`: something that
answers a user's questions and ranks a user's pairs. Every expensive step of it goes through the
store, so that a killed run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fspo_bench.data.tasks import Preference, Task
from fspo_bench.errors import UserError
from fspo_bench.lm.embed import VERSION as EMBEDDINGS
from fspo_bench.lm.embed import Array, Pooling, Text, hidden_states, sentence_embeddings
from fspo_bench.lm.outputs import answers, samples
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen
from fspo_bench.lm.train import Encoded, Stage, reference_logprobs, train_stage
from fspo_bench.presets import Preset
from fspo_bench.progress import say, track
from fspo_bench.store import Store, building, digest

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATE_TEMPERATURE, CANDIDATE_TOP_P = 1.0, 0.95  # of the pool that every reward method shares


@dataclass(frozen=True)
class Reply:
    """An answer, and what the method wrote on the way to it (a description of the user)."""

    text: str
    note: str = ""


class Personal(Protocol):
    """A fitted method; where a trained policy answers, its `state` is what the record names as weights."""

    def answer(self, asked: Sequence[tuple[Seen, str]]) -> list[Reply]:
        """A reply to each prompt, for the user that is seen with it."""

    def margins(self, pairs: Sequence[tuple[Seen, Preference]]) -> list[float]:
        """By how much each pair's chosen answer is ranked above the rejected one, for that user."""


@dataclass(frozen=True)
class Lesson:
    """What one context teaches: questions behind it with their answers.

    For a preference loss the answers stand in pairs: chosen, rejected. For "sft" each may have a weight.
    """

    context: Context
    answers: tuple[Text, ...]
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrainingEpisode:
    """A training user's shots and the further preferences that go with them; no question is in both."""

    user_id: str
    seen: Seen
    queries: tuple[Preference, ...]
    description: str = ""
    """The true one, if the method declares that it trains on it."""


@dataclass
class Lab:
    """All that a method may use. Nothing here leads to a test user or a test question."""

    policy: Policy
    encoder: PromptEncoder
    preset: Preset
    store: Store
    seed: int
    key: str
    """Changes whenever something that a method could learn from changes."""
    start: str = ""
    """The state that training starts from: untouched weights, or those given with `--init`."""
    parameters: int = 0
    """Trained so far, for the record."""
    tokens: int = 0
    """Run in training so far, each pass counted, for the record."""
    measured: dict[str, float] = field(default_factory=dict)
    """What the method found out about itself, for the record."""
    _task: Task = field(kw_only=True)
    _seen: Callable[..., Seen] = field(kw_only=True)
    _trains_on_descriptions: bool = field(kw_only=True)
    _worth: Callable[[str, str, Sequence[str]], list[float]] | None = field(kw_only=True, default=None)
    _hidden: dict[Pooling, dict[Text, Array]] = field(default_factory=lambda: {"mean": {}, "last": {}})

    # --- what there is to learn from ---

    def episodes(
        self, n: int, seed: int, shots: int | None = None, queries: int | None = None
    ) -> list[TrainingEpisode]:
        """`n` episodes of training users; the budget's numbers of shots and queries unless given."""
        preset = self.preset
        drawn = self._task.train_episodes(
            preset.shots if shots is None else shots, queries or preset.queries, n, 1000 * self.seed + seed
        )
        return [self._episode(e.user_id, e.shots, e.queries) for e in drawn]

    def _episode(
        self, user_id: str, shots: tuple[Preference, ...], queries: tuple[Preference, ...]
    ) -> TrainingEpisode:
        user = self._task.users[user_id]
        description = user.description if self._trains_on_descriptions else ""
        return TrainingEpisode(user_id, self._seen(user, shots), queries, description)

    def rng(self, *parts: object) -> np.random.Generator:
        """A random stream for each task, seed and `parts`, whatever else changes."""
        return np.random.default_rng(int(digest([self._task.name, self.seed, *map(str, parts)])[:16], 16))

    # --- the policy ---

    def train(self, stage: Stage, lessons: Sequence[Lesson], start: str | None = None) -> str:
        """Train one stage from a state (default: where the run starts); returns the trained state."""
        self.policy.state = self.start if start is None else start
        encoded = [self._encode(lesson) for lesson in lessons]
        train_stage(self.policy, stage, encoded, self.preset.chunk, self.store)
        passes = 1 if stage.loss == "sft" else 2  # the reference reads what a preference loss trains on
        self.tokens += passes * sum(e.tokens for e in encoded)
        self.parameters = max(self.parameters, self.policy.trained_parameters())
        return self.policy.state

    def write(self, state: str, asked: Sequence[tuple[Context, str]], label: str = "answers",
              max_new_tokens: int | None = None) -> list[str]:  # fmt: skip
        """Greedy answers of the policy in a state."""
        self.policy.state = state
        limit = max_new_tokens or self._task.spec.max_new_tokens
        texts = answers(self.policy, self.encoder, asked, limit, self.store, label)
        return [texts[a] for a in asked]

    def sample(self, state: str, asked: Sequence[tuple[Context, str]], k: int, label: str,
               temperature: float = 1.0, top_p: float = 0.95, max_new_tokens: int | None = None,
               ) -> list[list[str]]:  # fmt: skip
        """`k` sampled answers of the policy in a state to each question."""
        self.policy.state = state
        limit = max_new_tokens or self._task.spec.max_new_tokens
        texts = samples(self.policy, self.encoder, asked, k, temperature, top_p, limit, self.store, label)
        return [texts[a] for a in asked]

    def candidates(self, prompts: Sequence[str]) -> dict[str, list[str]]:
        """The shared pool: K different non-empty answers (or fewer) of the untouched model a question."""
        wanted = list(dict.fromkeys(prompts))
        drawn = self.sample(
            "", [(Context(), p) for p in wanted], self.preset.candidates, "candidates",
            CANDIDATE_TEMPERATURE, CANDIDATE_TOP_P,
        )  # fmt: skip
        return {
            p: [t for t in dict.fromkeys(texts) if t] or [""] for p, texts in zip(wanted, drawn, strict=True)
        }

    def logprobs(self, state: str, lessons: Sequence[Lesson], label: str) -> list[list[float]]:
        """Summed log-probability of every answer of every lesson under the policy in a state."""
        self.policy.state = state
        encoded = [self._encode(replace(lesson, weights=())) for lesson in lessons]
        return [
            reference_logprobs(self.policy, e, self.preset.chunk, self.store) for e in track(encoded, label)
        ]

    def answer_tokens(self, text: str) -> int:
        """Tokens of an answer, with the one that ends it."""
        return len(self.encoder.answer(text))

    def _encode(self, lesson: Lesson) -> Encoded:
        branches = tuple(self.encoder.branch(prompt, text) for prompt, text in lesson.answers)
        context = lesson.context
        return Encoded(self.encoder.prefix(context), branches, lesson.weights, context.latent)

    # --- frozen embeddings and small models on them ---

    def sentences(self, texts: Sequence[str]) -> Array:
        """Unit vectors of whole texts, shape (texts, 384): dot products are cosines."""
        return sentence_embeddings(texts, self.store)

    def hidden(self, texts: Sequence[Text], pooling: Pooling) -> Array:
        """Last-layer states of the untouched policy over prompt and answer, shape (texts, width)."""
        known = self._hidden[pooling]
        missing = [t for t in dict.fromkeys(texts) if t not in known]
        vectors = hidden_states(self.policy, self.encoder, missing, pooling, self.store) if missing else ()
        known |= dict(zip(missing, vectors, strict=True))
        return np.stack([known[t] for t in texts])

    def remembered(self, name: str, build: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors of a small model trained once: from the store if this run's were trained before."""
        from safetensors.torch import load_file, save_file

        key = digest(["small model", EMBEDDINGS, name, self.key, self.seed])
        file = self.store.folder_path(key) / "tensors.safetensors"
        if file.is_file():
            say(f"{name}: in store")
        else:
            with building(self.store.folder_path(key)) as folder:
                save_file({k: v.detach().contiguous() for k, v in build().items()}, folder / file.name)
        return load_file(file)

    def worth(self, seen: Seen, prompt: str, texts: Sequence[str]) -> list[float]:
        """How much the judge finds the user wants each answer (only for methods that see the judge)."""
        if self._worth is None:
            raise UserError("lab.worth asks the judge: the method's file must declare SEES = ('judge',)")
        return self._worth(seen.user_id, prompt, texts)

    # --- ready-made ways to answer ---

    def prompted(self, context: Callable[[Seen], Context], stages: Sequence[Stage]) -> Prompted:
        """Train a policy through the stages behind a context, and answer behind it."""
        state, reference = self.train_stages(stages, lambda es: [context(e.seen) for e in es])
        implicit = bool(stages) and stages[-1].loss != "sft"
        return Prompted(self, context, state, reference if implicit else None)

    def train_stages(
        self, stages: Sequence[Stage], contexts: Callable[[Sequence[TrainingEpisode]], Sequence[Context]]
    ) -> tuple[str, str]:
        """Train the policy behind a context for each episode, stage by stage.

        Returns:
            The trained state, and the state before the last stage: what a preference loss was held to.
        """
        reference = state = self.start
        for number, stage in enumerate(stages):
            episodes = self.episodes(stage.contexts, number)
            lessons = [
                lesson_of(context, e.queries, stage)
                for context, e in zip(contexts(episodes), episodes, strict=True)
            ]
            reference, state = state, self.train(stage, lessons, state)
        return state, reference


def lesson_of(context: Context, queries: Sequence[Preference], stage: Stage) -> Lesson:
    """What a stage fits behind a context: pairs, or the answers that "sft" is to fit."""
    if stage.loss == "sft" and stage.targets == "chosen":
        return Lesson(context, tuple((q.prompt, q.chosen) for q in queries))
    return Lesson(context, tuple((q.prompt, text) for q in queries for text in (q.chosen, q.rejected)))


@dataclass(frozen=True)
class Prompted:
    """A policy that answers behind a context.

    It ranks by its implicit reward (log-ratio to the reference it was trained against by a preference
    loss), or, without a reference, by the mean log-probability of a token.
    """

    lab: Lab
    context: Callable[[Seen], Context]
    state: str
    reference: str | None = None

    def answer(self, asked: Sequence[tuple[Seen, str]]) -> list[Reply]:
        texts = self.lab.write(self.state, [(self.context(seen), prompt) for seen, prompt in asked])
        return [Reply(text) for text in texts]

    def margins(self, pairs: Sequence[tuple[Seen, Preference]]) -> list[float]:
        lessons = [
            Lesson(
                self.context(seen),
                tuple((p.prompt, text) for _, p in group for text in (p.chosen, p.rejected)),
            )
            for seen, group in groupby(pairs, key=lambda pair: pair[0])
        ]
        scores = self.lab.logprobs(self.state, lessons, "preference accuracy")
        if self.reference is None:
            scores = [
                [s / self.lab.answer_tokens(text) for s, (_, text) in zip(row, lesson.answers, strict=True)]
                for row, lesson in zip(scores, lessons, strict=True)
            ]
        else:
            before = self.lab.logprobs(self.reference, lessons, "preference accuracy (reference)")
            scores = [
                [s - r for s, r in zip(*rows, strict=True)] for rows in zip(scores, before, strict=True)
            ]
        return [row[n] - row[n + 1] for row in scores for n in range(0, len(row), 2)]


def module_parameters(*modules: Any) -> int:
    """How many numbers torch modules (or tensors) hold."""
    return sum(p.numel() for m in modules for p in (m.parameters() if hasattr(m, "parameters") else [m]))
