"""Personas: fixed ones as they were written, or traits that a model turns into a first description."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from fspo_bench.synth import parsers, prompts
from fspo_bench.synth.crew import Ask
from fspo_bench.synth.domain import spread
from fspo_bench.synth.files import Output, Row
from fspo_bench.synth.stage import Work, dropped

WORDS = (12, 160)  # of a description


class Personas:
    """An item is a user."""

    files: ClassVar[tuple[str, ...]] = ("personas", "dropped.personas")
    sharded: ClassVar[bool] = False

    def __init__(self, work: Work) -> None:
        self.work, self.users = work, work.domain.users
        self._cells = self._combinations()

    @property
    def items(self) -> int:
        return len(self.users.fixed) or self.users.count

    @property
    def calls(self) -> float:
        return 0 if self.users.fixed else 1

    def make(self, numbers: range) -> Iterator[Output]:
        if self.users.fixed:
            for user in self.users.fixed[numbers.start : numbers.stop]:
                yield "personas", {"user_id": user.user_id, "split": user.split, "group": user.group,
                                   "traits": [], "description": user.description}  # fmt: skip
            return
        rows = [self._row(number) for number in numbers]
        asks = [
            Ask(prompts.persona(self.work.domain, row["traits"]), ["persona", row["user_id"]], prompts.WRITER)
            for row in rows
        ]
        for row, text in zip(rows, self.work.crew.read(asks, parsers.prose(*WORDS)), strict=True):
            if text is None:
                yield dropped("personas", row["user_id"], "no description could be read")
            else:
                yield "personas", {**row, "description": text}

    def _row(self, number: int) -> Row:
        """A user without its description."""
        name = f"u{number:06d}"
        values = self._values(self._cells[number * len(self._cells) // self.users.count])
        rng = self.work.draw("traits", name)
        traits = [f"{trait}: {value}" for trait, value in zip(self.users.traits, values, strict=True)]
        traits += [f"{trait}: {rng.choice(among)}" for trait, among in self.users.drawn.items()]
        split = "test" if spread(number, self.users.test_share) else "train"
        return {"user_id": name, "split": split, "group": "|".join(values), "traits": traits}

    def _combinations(self) -> list[int]:
        """Numbers of the combinations of traits in use: all, or as many as there are users."""
        every = math.prod(len(values) for values in self.users.traits.values())
        if self.users.count >= every:
            return list(range(every))
        return sorted(self.work.draw("combinations").sample(range(every), self.users.count))

    def _values(self, combination: int) -> list[str]:
        """The combination of this number, the last trait changing fastest."""
        values = []
        for among in reversed(self.users.traits.values()):
            combination, place = divmod(combination, len(among))
            values.append(among[place])
        return values[::-1]
