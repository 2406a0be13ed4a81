"""Near-duplicates: texts whose embeddings point almost the same way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fspo_bench.data.texts import plain
from fspo_bench.synth.stage import Embed


class Distinct:
    """Texts taken so far, by spelling and by embedding."""

    def __init__(self, embed: Embed, similarity: float) -> None:
        """`similarity`: the cosine from which on two texts are one."""
        self.embed, self.similarity = embed, similarity
        self._texts: list[str] = []
        self._spelt: set[str] = set()
        self._vectors: NDArray[np.float32] | None = None

    def take(self, texts: list[str]) -> list[str]:
        """Take each text that is new; for each why it was not, or nothing."""
        if not texts:
            return []
        vectors = self.embed(texts)
        return [self._take(text, vector) for text, vector in zip(texts, vectors, strict=True)]

    def _take(self, text: str, vector: NDArray[np.float32]) -> str:
        if plain(text) in self._spelt:
            return "there already"
        if self._vectors is not None:
            cosines = self._vectors[: len(self._texts)] @ vector
            nearest = int(cosines.argmax())
            if round(float(cosines[nearest]), 4) >= self.similarity:
                return f"near-duplicate ({cosines[nearest]:.2f})"
        self._add(text, vector)
        return ""

    def _add(self, text: str, vector: NDArray[np.float32]) -> None:
        have = len(self._texts)
        if self._vectors is None:
            self._vectors = np.zeros((16, len(vector)), dtype=np.float32)
        elif have == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._vectors[have] = vector
        self._texts.append(text)
        self._spelt.add(plain(text))
