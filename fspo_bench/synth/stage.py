"""What all stages are: numbered items, made into rows a window at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fspo_bench.store import digest
from fspo_bench.synth.crew import Crew
from fspo_bench.synth.domain import Domain
from fspo_bench.synth.files import Output

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Unit vectors of texts, shape (texts, width)."""

CALLS = 2048  # of a window, about


@dataclass(frozen=True)
class Work:
    """What a stage works with."""

    domain: Domain
    folder: Path
    crew: Crew
    embed: Embed

    def draw(self, *parts: Any) -> random.Random:
        """Random numbers that hang on the domain's seed and on what they are for."""
        return random.Random(digest([self.domain.seed, *parts]))


class Stage(Protocol):
    """One stage; its rows hang on the plan and on what models answer, not on when or where they are made."""

    files: ClassVar[tuple[str, ...]]
    """Names without `.jsonl`: its own, then what else it writes."""
    sharded: ClassVar[bool]

    def __init__(self, work: Work) -> None: ...

    @property
    def items(self) -> int: ...

    @property
    def calls(self) -> float:
        """Calls that an item takes at least."""
        ...

    def make(self, numbers: range) -> Iterator[Output]:
        """The rows of these items, in their order."""
        ...


def dropped(stage: str, name: str, why: str, text: str = "") -> Output:
    """A row about something that a filter took away."""
    row = {"stage": stage, "id": name, "why": why}
    return f"dropped.{stage}", row | ({"text": text} if text else {})
