"""Responses: several answers to each question, made to differ by views, personas, models and temperature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fspo_bench.synth import parsers, prompts
from fspo_bench.synth.crew import Ask
from fspo_bench.synth.distinct import Distinct
from fspo_bench.synth.files import Lines, Output, Row, rows_of
from fspo_bench.synth.stage import Work, dropped

TOKENS_A_WORD = 2  # generous: what is cut off in the middle of a sentence is lost


class Responses:
    """An item is a question."""

    files: ClassVar[tuple[str, ...]] = ("responses", "dropped.responses")
    sharded: ClassVar[bool] = True

    def __init__(self, work: Work) -> None:
        self.work, self.hows = work, work.domain.hows
        self.questions = Lines(work.folder / "questions.jsonl")
        self.personas = Lines(work.folder / "personas.jsonl")
        self._steering = [n for n, row in enumerate(rows_of(self.personas.file)) if row["split"] != "test"]

    @property
    def items(self) -> int:
        return len(self.questions)

    @property
    def calls(self) -> float:
        return len(self.hows) + ("view" in self.hows)

    def make(self, numbers: range) -> Iterator[Output]:
        questions = self.questions.some(numbers.start, numbers.stop)
        views = self._views(questions)
        planned = [self._planned(*each) for each in zip(numbers, questions, views, strict=True)]
        asks = [
            self._ask(question, row)
            for question, rows in zip(questions, planned, strict=True)
            for row in rows
            if row["steer"] is not None
        ]
        texts = iter(self.work.crew.read(asks, parsers.prose(*self.work.domain.answers.words)))
        for question, rows in zip(questions, planned, strict=True):
            for row in rows:
                row["text"] = None if row["steer"] is None else next(texts)
            yield from self._kept(question, rows)

    def _views(self, questions: list[Row]) -> list[list[str]]:
        """The views that a model names on each question."""
        count = self.hows.count("view")
        if not count:
            return [[] for _ in questions]
        asks = [
            Ask(
                prompts.views(self.work.domain, q["prompt"], count),
                ["views", q["question_id"]],
                prompts.WRITER,
                max_tokens=60 * count,
            )
            for q in questions
        ]
        return [found or [] for found in self.work.crew.read(asks, parsers.listed(count))]

    def _planned(self, number: int, question: Row, views: list[str]) -> list[Row]:
        """The answers to be made, without texts; `steer` is None where no view is left for one."""
        domain, left, rows = self.work.domain, iter(views), []
        ensemble = 1 if "ensemble" in domain.without else len(self.work.crew.models)
        for place, how in enumerate(self.hows):
            name = f"{question['question_id']}/{place}"
            steer = next(left, None) if how == "view" else self._persona(name) if how == "persona" else ""
            model = self.work.crew.models[(number + place) % ensemble].name
            rows.append(
                {"answer_id": name, "question_id": question["question_id"], "text": "", "model": model,
                 "how": how, "steer": steer, "temperature": domain.answers.temperature}
            )  # fmt: skip
        return rows

    def _persona(self, name: str) -> str:
        """A description drawn for this answer, of a user that is not tested."""
        among = self._steering or range(len(self.personas))
        return str(self.personas[self.work.draw("steer", name).choice(among)]["description"])

    def _ask(self, question: Row, row: Row) -> Ask:
        answers = self.work.domain.answers
        names = [model.name for model in self.work.crew.models]
        return Ask(
            prompts.answer(self.work.domain, question["prompt"], row["how"], row["steer"]),
            ["answer", row["answer_id"]],
            model=names.index(row["model"]),
            max_tokens=answers.words[1] * TOKENS_A_WORD,
            temperature=answers.temperature,
        )

    def _kept(self, question: Row, rows: list[Row]) -> Iterator[Output]:
        """The answers that can be used, and why the others cannot."""
        faults = {row["answer_id"]: _fault(row, question) for row in rows}
        sound = [row for row in rows if not faults[row["answer_id"]]]
        distinct = Distinct(self.work.embed, self.work.domain.answers.similarity)
        whys = distinct.take([row["text"] for row in sound])
        faults |= {row["answer_id"]: why for row, why in zip(sound, whys, strict=True)}
        for row in rows:
            if why := faults[row["answer_id"]]:
                yield dropped("responses", row["answer_id"], why, row["text"] or "")
            else:
                yield "responses", row


def _fault(row: Row, question: Row) -> str:
    if row["steer"] is None:
        return "no view could be read"
    if row["text"] is None:
        return "no whole sentences of the wanted length, or a refusal"
    if parsers.foreign(row["text"], question["prompt"]):
        return "another script than the question's"
    return ""
