"""Labels: which of two answers each user prefers; where the description leaves it open, the user is refined
and all of the user's pairs are labelled anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import ClassVar, NamedTuple

from fspo_bench.synth import parsers, prompts
from fspo_bench.synth.crew import Ask
from fspo_bench.synth.files import Lines, Output, Row
from fspo_bench.synth.pool import Pool
from fspo_bench.synth.stage import Work, dropped

VERDICT_TOKENS = 8
STATEMENT_TEMPERATURE = 0.7

Verdict = str | None
"""`a`, `b`, `tie`; None where nothing could be read."""


class Pair(NamedTuple):
    """Two answers to a question."""

    question: Row
    a: Row
    b: Row

    @property
    def name(self) -> str:
        return f"{self.a['answer_id']}|{self.b['answer_id']}"


@dataclass
class Persona:
    """A user at work: the description grows, the pairs stay."""

    row: Row
    pairs: list[Pair]
    description: str
    open: list[Pair] = field(default_factory=list)
    """Pairs that the description leaves open."""
    labels: list[Row] = field(default_factory=list)
    refinements: list[Row] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Questions for which no statement could be read."""

    @property
    def user_id(self) -> str:
        return str(self.row["user_id"])


class Labels:
    """An item is a user."""

    files: ClassVar[tuple[str, ...]] = ("labels", "refinements", "dropped.labels")
    sharded: ClassVar[bool] = True

    def __init__(self, work: Work) -> None:
        self.work = work
        self.personas = Lines(work.folder / "personas.jsonl")
        self.pool = Pool(work.folder)

    @property
    def items(self) -> int:
        return len(self.personas)

    @property
    def calls(self) -> float:
        return label_calls(self.work.domain.labels.questions, self.work)

    def make(self, numbers: range) -> Iterator[Output]:
        users = [
            Persona(row, self._pairs(row), row["description"])
            for row in self.personas.some(numbers.start, numbers.stop)
        ]
        active = users
        for refinement in range(self.work.domain.rounds + 1):
            if not active:
                break
            self._label(active, refinement)
            if refinement < self.work.domain.rounds:
                active = self._refine([user for user in active if user.open], refinement + 1)
        for user in users:
            yield from (("labels", row) for row in user.labels)
            yield from (("refinements", row) for row in user.refinements)
            for name in user.unread:
                yield dropped("labels", f"{user.user_id}/{name}", "no statement could be read")

    def _pairs(self, user: Row) -> list[Pair]:
        """What a user is asked about: drawn once, whatever the description becomes."""
        labels, rng = self.work.domain.labels, self.work.draw("pairs", user["user_id"])
        wanted = {"train": labels.questions}
        if user["split"] != "train":  # test questions are for those who are tested
            wanted["test"] = labels.test_questions
        pairs = []
        for split, count in wanted.items():
            among = self.pool.numbers[split]
            for number in rng.sample(among, min(count, len(among))):
                question, answers = self.pool.asked(number)
                every = list(combinations(answers, 2))
                for two in rng.sample(every, min(labels.pairs, len(every))):
                    pairs.append(Pair(question, *rng.sample(two, 2)))
        return pairs

    def _label(self, users: Sequence[Persona], refinement: int) -> None:
        """Label all pairs of these users by their descriptions as they are now."""
        labels, line = self.work.domain.labels, self.work.crew.line
        asks = [
            self._ask(user, pair, a_first, refinement, repeat)
            for user in users
            for pair in user.pairs
            for repeat in range(labels.repeats)
            for a_first in self._orders(user, pair)
        ]
        line.total += len(asks) if refinement else 0  # the first labels are in the forecast
        verdicts = iter(self.work.crew.read(asks, parsers.verdict))
        for user in users:
            user.open = []
            for pair in user.pairs:
                rows = []
                for repeat in range(labels.repeats):
                    said = {a_first: next(verdicts) for a_first in self._orders(user, pair)}
                    rows.append(_row(user, pair, refinement, repeat, said))
                user.labels += rows
                if is_open([row["outcome"] for row in rows]):
                    user.open.append(pair)

    def _orders(self, user: Persona, pair: Pair) -> tuple[bool, ...]:
        """Whether a is shown first: both ways, or one that is drawn and stays."""
        if self.work.domain.both_orders:
            return True, False
        return (self.work.draw("order", user.user_id, pair.name).random() < 0.5,)

    def _ask(self, user: Persona, pair: Pair, a_first: bool, refinement: int, repeat: int) -> Ask:
        first, second = (pair.a, pair.b) if a_first else (pair.b, pair.a)
        asked = prompts.label(
            self.work.domain, user.description, pair.question["prompt"], first["text"], second["text"]
        )
        return Ask(
            asked, ["label", user.user_id, repeat], prompts.STAND_IN, max_tokens=VERDICT_TOKENS,
            temperature=self.work.domain.labels.temperature,
        )  # fmt: skip

    def _refine(self, users: Sequence[Persona], refinement: int) -> list[Persona]:
        """Add to each description what decides some of its open pairs; the users that have grown."""
        most = self.work.domain.refinement.statements
        queues = []
        for user in users:
            rng = self.work.draw("open", user.user_id, refinement)
            queues.append((user, iter(rng.sample(user.open, min(most, len(user.open))))))
        for _ in range(most):  # one statement after the other: each must agree with those before
            turn = [(user, pair) for user, queue in queues if (pair := next(queue, None))]
            asks = [self._explain(user, pair, refinement) for user, pair in turn]
            self.work.crew.line.total += len(asks)
            texts = self.work.crew.read(asks, parsers.sentence)
            for (user, pair), text in zip(turn, texts, strict=True):
                self._grow(user, pair, refinement, text)
        return [u for u in users if u.refinements and u.refinements[-1]["refinement"] == refinement]

    def _choice(self, user: Persona, pair: Pair) -> bool:
        """Whether a is the one that the user will have preferred; the same in every round."""
        return self.work.draw("choice", user.user_id, pair.name).random() < 0.5

    def _explain(self, user: Persona, pair: Pair, refinement: int) -> Ask:
        chosen, other = (pair.a, pair.b) if self._choice(user, pair) else (pair.b, pair.a)
        asked = prompts.statement(
            self.work.domain, user.description, pair.question["prompt"], chosen["text"], other["text"]
        )
        return Ask(
            asked, ["statement", user.user_id, refinement, pair.name], prompts.WRITER, max_tokens=96,
            temperature=STATEMENT_TEMPERATURE,
        )  # fmt: skip

    def _grow(self, user: Persona, pair: Pair, refinement: int, text: str | None) -> None:
        if text is None:
            user.unread.append(pair.question["question_id"])
            return
        user.description = f"{user.description} {text}"
        chosen = pair.a if self._choice(user, pair) else pair.b
        user.refinements.append(
            {"user_id": user.user_id, "refinement": refinement, "question_id": pair.question["question_id"],
             "chosen": chosen["answer_id"], "statement": text, "description": user.description}
        )  # fmt: skip


def label_calls(questions: int, work: Work) -> float:
    """Calls that labelling a pair of each of so many questions takes once."""
    labels = work.domain.labels
    return questions * labels.pairs * labels.repeats * (2 if work.domain.both_orders else 1)


def _row(user: Persona, pair: Pair, refinement: int, repeat: int, said: dict[bool, str | None]) -> Row:
    ab, ba = _named(said.get(True), "a", "b"), _named(said.get(False), "b", "a")
    asked = [ab] if False not in said else [ba] if True not in said else [ab, ba]
    return {
        "user_id": user.user_id, "question_id": pair.question["question_id"], "a": pair.a["answer_id"],
        "b": pair.b["answer_id"], "refinement": refinement, "repeat": repeat, "ab": ab, "ba": ba,
        "outcome": outcome(asked),
    }  # fmt: skip


def _named(verdict: str | None, first: str, second: str) -> Verdict:
    return {parsers.FIRST: first, parsers.SECOND: second, parsers.TIE: "tie", None: None}[verdict]


def outcome(verdicts: Sequence[Verdict]) -> str:
    """`a`, `b` or `tie` where all orders say so; `flip` where they differ; `invalid` where one is unread."""
    if None in verdicts:
        return "invalid"
    return str(verdicts[0]) if len(set(verdicts)) == 1 else "flip"


def is_open(outcomes: Sequence[str]) -> bool:
    """Whether the description leaves a pair open: a flip, a tie, or repeats that differ."""
    read = {o for o in outcomes if o != "invalid"}
    return bool(read) and (len(read) > 1 or read <= {"flip", "tie"})


def settled(outcomes: Sequence[str]) -> str | None:
    """`a` or `b` where all repeats say so."""
    return outcomes[0] if len(set(outcomes)) == 1 and outcomes[0] in ("a", "b") else None
