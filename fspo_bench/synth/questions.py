"""Questions: a person's seeds, then what a model adds to them, without near-duplicates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from fspo_bench.progress import say
from fspo_bench.synth import parsers, prompts
from fspo_bench.synth.crew import Ask
from fspo_bench.synth.distinct import Distinct
from fspo_bench.synth.domain import Kind, spread
from fspo_bench.synth.files import Output, Row
from fspo_bench.synth.stage import Work, dropped

A_CALL = 10  # questions asked for in one call
EXAMPLES = 6  # shown in each
ROUNDS = 6  # of asking for what is still missing


class Questions:
    """One item: each kind builds on the questions before it."""

    files: ClassVar[tuple[str, ...]] = ("questions", "dropped.questions")
    sharded: ClassVar[bool] = False

    def __init__(self, work: Work) -> None:
        self.work = work

    @property
    def items(self) -> int:
        return 1

    @property
    def calls(self) -> float:
        kinds = self.work.domain.questions.kinds
        return sum(math.ceil(max(0, kind.count - len(kind.seeds)) / A_CALL) for kind in kinds)

    def make(self, numbers: range) -> Iterator[Output]:
        domain = self.work.domain
        taken = Distinct(self.work.embed, domain.questions.similarity)
        number = 0
        for kind in domain.questions.kinds:
            place = 0
            for output in self._of_kind(kind, taken):
                name, row = output
                if name == "questions":
                    split = "test" if spread(place, domain.questions.test_share) else "train"
                    row = {"question_id": f"q{number:06d}", "prompt": row["prompt"], "kind": kind.name,
                           "split": split, "seed": row["seed"], "model": row["model"]}  # fmt: skip
                    place, number = place + 1, number + 1
                yield name, row
            if place < kind.count:
                say(f"questions: {place} of {kind.count} of kind '{kind.name}'; the rest was said before")

    def _of_kind(self, kind: Kind, taken: Distinct) -> Iterator[Output]:
        have: list[str] = []
        yield from self._taken(kind, kind.seeds[: kind.count], taken, have, "")
        for attempt in range(ROUNDS):
            if not (calls := math.ceil((kind.count - len(have)) / A_CALL)):
                return
            asks = [self._ask(kind, have or kind.seeds, attempt, call) for call in range(calls)]
            for found in self.work.crew.read(asks, parsers.questions(A_CALL)):
                model = self.work.crew.models[0].name
                yield from self._taken(kind, found or [], taken, have, model)

    def _ask(self, kind: Kind, have: list[str], attempt: int, call: int) -> Ask:
        of = ["questions", kind.name, attempt, call]
        examples = self.work.draw("examples", of).sample(have, min(EXAMPLES, len(have)))
        asked = prompts.more_questions(self.work.domain, kind, examples, A_CALL)
        return Ask(asked, of, prompts.WRITER, max_tokens=40 * A_CALL)

    def _taken(
        self, kind: Kind, texts: list[str], taken: Distinct, have: list[str], model: str
    ) -> Iterator[Output]:
        """Rows of the texts that are new, up to the number wanted; who wrote them (nothing: a person)."""
        for text, why in zip(texts, taken.take(texts), strict=True):
            if why:
                yield dropped("questions", kind.name, why, text)
            elif len(have) < kind.count:
                have.append(text)
                row: Row = {"prompt": text, "seed": not model, "model": model}
                yield "questions", row
