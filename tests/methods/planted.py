"""A planted task for reward methods: users of a few kinds, each wanting one direction of the embeddings.

Only the shots tell which kind a user is. The lab around it has what reward methods use of the real one.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType

import numpy as np
from torch import Tensor

from fspo_bench.data.tasks import Preference
from fspo_bench.lab import TrainingEpisode
from fspo_bench.lm.prompts import Seen
from fspo_bench.packs import find_methods, load_method, packs, resolve
from fspo_bench.presets import Preset
from fspo_bench.rewards import Judged
from tests.conftest import SMALL

SIZE = 8
OPPOSED = (1, -1)  # kinds that want more or less of the first number of an embedding


def method(name: str) -> ModuleType:
    return load_method(resolve(name, find_methods(packs()[:1]), "method"))


@cache
def vector(text: tuple[str, str]) -> np.ndarray:
    """A text's embedding: a part of its prompt's and one of its own."""
    parts = [
        np.random.default_rng(zlib.crc32(part.encode())).normal(size=SIZE) for part in (text[0], text[1])
    ]
    return (0.5 * parts[0] + parts[1] + 3).astype(np.float32)


def taste(kind: int, text: tuple[str, str]) -> float:
    """What a user of this kind finds an answer worth: the sign and place (from 1) of a number."""
    return float(np.sign(kind) * vector(text)[abs(kind) - 1])


@dataclass
class PlantedLab:
    """Stands in for `fspo_bench.lab.Lab`."""

    preset: Preset = field(default_factory=lambda: replace(SMALL, shots=4, queries=8, candidates=6))
    kinds: tuple[int, ...] = OPPOSED
    users: int = 200
    seed: int = 0
    parameters: int = 0
    measured: dict[str, float] = field(default_factory=dict)
    built: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def kind(self, user_id: str) -> int:
        return self.kinds[int(user_id[1:]) % len(self.kinds)]

    def episode(self, user_id: str, rng: np.random.Generator, split: str = "train") -> TrainingEpisode:
        questions = rng.permutation(60)[: self.preset.shots + self.preset.queries]
        both = [self.preference(user_id, f"{split} {q}", rng) for q in questions]
        shots, queries = both[: self.preset.shots], both[self.preset.shots :]
        return TrainingEpisode(user_id, Seen(tuple(shots)), tuple(queries))

    def preference(self, user_id: str, prompt: str, rng: np.random.Generator) -> Preference:
        """A pair that the user's taste decides clearly."""
        kind = self.kind(user_id)
        while True:
            a, b = (f"answer {n}" for n in rng.integers(12, size=2))
            if abs(gap := taste(kind, (prompt, a)) - taste(kind, (prompt, b))) > 0.7:
                return Preference(prompt, prompt, *((a, b) if gap > 0 else (b, a)))

    def episodes(self, n: int, seed: int) -> list[TrainingEpisode]:
        rng = np.random.default_rng(seed)
        return [self.episode(f"u{k % self.users}", rng) for k in range(n)]

    def unseen(self, n: int) -> list[TrainingEpisode]:
        """Users and questions that were never trained on; neighbours are of different kinds."""
        rng = np.random.default_rng(99)
        return [self.episode(f"u{10_000 + k}", rng, "test") for k in range(n)]

    def hidden(self, texts: Sequence[tuple[str, str]], pooling: str) -> np.ndarray:
        return np.stack([vector(t) for t in texts])

    def rng(self, *parts: object) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(repr((self.seed, *parts)).encode()))

    def remembered(self, name: str, build: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        if name not in self.built:
            self.built[name] = {k: v.detach().clone() for k, v in build().items()}
        return self.built[name]

    def candidates(self, prompts: Sequence[str]) -> dict[str, list[str]]:
        return {p: [f"answer {100 + n}" for n in range(self.preset.candidates)] for p in prompts}


def accuracy(fitted: object, episodes: Sequence[TrainingEpisode], swapped: bool = False) -> float:
    """How often a fitted method ranks queries right, behind own shots or behind the next user's."""
    own = [e.seen for e in episodes]
    seen = [*own[1:], own[0]] if swapped else own
    pairs = [(s, q) for s, e in zip(seen, episodes, strict=True) for q in e.queries]
    return float(np.mean(np.array(fitted.margins(pairs)) > 0))  # type: ignore[attr-defined]


def best_share(fitted: object, lab: PlantedLab, episodes: Sequence[TrainingEpisode]) -> float:
    """How often the answer is one of the two of the pool that the user's taste puts first."""
    asked = [(e.seen, e.queries[0].prompt) for e in episodes]
    pool = lab.candidates([p for _, p in asked])
    hits = []
    for e, (_, prompt), reply in zip(episodes, asked, fitted.answer(asked), strict=True):  # type: ignore[attr-defined]
        ranked = sorted(pool[prompt], key=lambda text: -taste(lab.kind(e.user_id), (prompt, text)))
        hits.append(reply.text in ranked[:2])
    return float(np.mean(hits))


def judged(seen: Seen, n: int = 5) -> list[Judged]:
    """Answers to a prompt that nobody was trained on, for one user."""
    return [(seen, "somewhere new", f"answer {k}") for k in range(n)]
