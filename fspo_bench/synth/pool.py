"""Questions with their answers, read from disk when a user is asked about them."""

from __future__ import annotations

from array import array
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fspo_bench.synth.files import Lines, Row, rows_of

AT_HAND = 2048  # questions kept in memory, some ten kilobytes each


class Asked(NamedTuple):
    """A question and the answers that it has."""

    question: Row
    answers: list[Row]


class Pool:
    """`numbers` lists by split the questions that have at least two answers."""

    def __init__(self, folder: Path) -> None:
        self._questions = Lines(folder / "questions.jsonl")
        self._answers = Lines(folder / "responses.jsonl")
        counts = array("q", [0]) * len(self._questions)
        for row in rows_of(folder / "responses.jsonl"):
            counts[number_of(row["question_id"])] += 1
        self._first = array("q", [0])
        self.numbers = {"train": array("q"), "test": array("q")}
        for number, row in enumerate(rows_of(folder / "questions.jsonl")):
            self._first.append(self._first[-1] + counts[number])
            if counts[number] > 1:
                self.numbers[row["split"]].append(number)
        self.asked = lru_cache(AT_HAND)(self._read)

    def _read(self, number: int) -> Asked:
        answers = self._answers.some(self._first[number], self._first[number + 1])
        return Asked(self._questions[number], answers)


def number_of(question_id: str) -> int:
    """A question's place in its file."""
    return int(question_id[1:])
