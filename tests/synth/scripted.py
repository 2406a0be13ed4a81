"""A scripted model with known tastes and biases, in this process or behind HTTP.

Everything in its world is one of eight words. A description may name a word that its person loves or hates;
an answer is about one word. Asked which of two answers a person prefers, it knows where the description
decides; where it does not, it follows its bias.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fspo_bench.judge.calls import Completion, Keep, Request
from fspo_bench.judge.spec import Parameters
from fspo_bench.synth.crew import Model
from fspo_bench.synth.domain import Domain
from fspo_bench.synth.files import Shard
from fspo_bench.synth.runner import Synthesis
from tests.judge.faulty_server import Server

WORDS = ("walking", "swimming", "reading", "cooking", "building", "resting", "singing", "painting")
FILLER = "and take your time with it, since there is no hurry and nothing to lose"


def number(*parts: object) -> int:
    """A hash."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=4).digest(), "big")


def words_of(text: str) -> list[str]:
    return [word for word in WORDS if word in text]


@dataclass
class Script:
    """What the model does."""

    bias: str = "seed"
    """Where a description does not decide: `first`, `longer`, `tie`, or a coin by the request's `seed`."""
    always: str = ""
    """`first` or `longer`: whatever the description says."""
    knows: int = 3
    """Words that a first description names, of eight."""
    noise: int = 0
    """Of a hundred answers so many are nothing that can be read."""
    copies: bool = False
    """Whether answers to a question are all alike."""

    def __call__(self, user: str, seed: int) -> str:
        if self.noise and number("noise", user, seed) % 100 < self.noise:
            return "..."
        for mark, reply in (
            ("further questions of this kind", self._questions), ("Invent one person", self._persona),
            ("clearly different views", self._views), ("Answer the question below", self._answer),
            ("## Your verdict", self._verdict), ("one sentence to be added", self._statement),
        ):  # fmt: skip
            if mark in user:
                return reply(user, seed)
        raise AssertionError(user)

    def _questions(self, user: str, seed: int) -> str:
        """Two of them repeat an example."""
        example = user.partition("- ")[2].partition("\n")[0]
        things = [(number(seed, n) % 10**6, number(n, seed) % 10**6) for n in range(10)]
        lines = [f"How about thing {one} and {other}?" for one, other in things]
        lines[3] = lines[7] = example
        return "Sure! Here you are:\n" + "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))

    def _persona(self, user: str, seed: int) -> str:
        known = sorted(range(len(WORDS)), key=lambda n: number(seed, n))[: self.knows]
        tastes = " ".join(f"{'Loves' if number(seed, 'l', n) % 2 else 'Hates'} {WORDS[n]}." for n in known)
        return f"A person number {seed} who lives near the sea and works on most days of the week. {tastes}"

    def _views(self, user: str, seed: int) -> str:
        count = int(re.search(r"Name (\d+) clearly", user)[1])  # type: ignore[index]
        chosen = sorted(range(len(WORDS)), key=lambda n: number(user, n))[:count]
        return "\n".join(f"{k}. Do some {WORDS[n]} about it." for k, n in enumerate(chosen, 1))

    def _answer(self, user: str, seed: int) -> str:
        question = user.partition("\nQuestion: ")[2]
        word = WORDS[0] if self.copies else (words_of(user) or [WORDS[seed % 8]])[0]
        tail = FILLER if number(user) % 2 and not self.copies else "today"
        return f"For {question.strip('?').lower()} you could begin with some {word} in the morning, {tail}."

    def _verdict(self, user: str, seed: int) -> str:
        person = user.partition("## Person\n")[2].partition("\n\n")[0]
        first, second = (user.partition(f"## Answer {n}\n")[2].partition("\n\n")[0] for n in (1, 2))
        worth = [] if self.always else [self._worth(person, text) for text in (first, second)]
        bias = self.always or (self.bias if worth[:1] == worth[1:] else "")
        if bias == "first":
            return "1"
        if bias == "longer":
            return "1" if (len(first), first) >= (len(second), second) else "**2**"
        if bias == "tie":
            return "0"
        if bias == "seed":
            return str(1 + number(seed, user) % 2)
        return "Answer 1" if worth[0] > worth[1] else "2."

    @staticmethod
    def _worth(person: str, text: str) -> int:
        (word,) = words_of(text)
        places = {
            sign: person.lower().rfind(f"{said} {word}") for said, sign in (("loves", 1), ("hates", -1))
        }
        return 0 if places[1] == places[-1] else max(places, key=lambda sign: places[sign])

    @staticmethod
    def _statement(user: str, seed: int) -> str:
        (word,) = words_of(user.partition("## The answer preferred\n")[2].partition("\n\n")[0])
        (other,) = words_of(user.partition("## The other answer\n")[2].partition("\n\n")[0])
        return f"Statement: This person loves {word} and hates {other}. It is so."


@dataclass
class Scripted:
    """A script as a model in this process; `stop` is called before each answer."""

    script: Script = field(default_factory=Script)
    stop: Callable[[], None] = lambda: None
    asked: int = 0
    key: str = "openai/scripted"

    def complete(self, requests: Iterator[Request], parameters: Parameters, keep: Keep) -> None:
        for request in requests:
            self.stop()
            self.asked += 1
            text = self.script(request.user, request.seed or 0)
            keep(request, Completion(text, input_tokens=100, output_tokens=10, seconds=0.01))


class ScriptedServer(Server):
    """A script behind HTTP."""

    def __init__(self, script: Script, faults: dict[int, str] | None = None) -> None:
        super().__init__(lambda _: ("", {}), faults or {})
        self.script = script

    def answer(self, asked: dict[str, Any]) -> tuple[str, dict[str, float]]:
        return self.script(asked["messages"][-1]["content"], asked["seed"]), {}


@contextmanager
def serving(script: Script, faults: dict[int, str] | None = None) -> Iterator[ScriptedServer]:
    """A server at work until the block ends."""
    server = ScriptedServer(script, faults)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def letters(texts: list[str]) -> np.ndarray:
    """Unit vectors of the words of texts, hashed."""
    vectors = np.zeros((len(texts), 128), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, number(word) % 128] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


THINGS = {"name": "things", "count": 20, "about": "what to do", "seeds": ["What about thing one?"]}


def domain(**changes: Any) -> Domain:
    """A small domain; `changes` replace its parts' keys, as `labels={"repeats": 2}`."""
    parts: dict[str, Any] = {
        "summary": "A made domain.", "license": "CC0-1.0", "about": "Things to do.", "shots": 3,
        "questions": {
            "kinds": [THINGS],
            "test_share": 0.25,
        },
        "users": {"count": 12, "traits": {"age": ["young", "old"], "place": ["town", "sea"]},
                  "drawn": {"work": ["baker", "nurse"]}, "test_share": 0.25},
        "answers": {"views": 3, "words": [5, 60]},
        "labels": {"questions": 12, "test_questions": 4},
        "refinement": {"rounds": 2, "statements": 2},
    }  # fmt: skip
    for key, value in changes.items():
        parts[key] = {**parts[key], **value} if isinstance(value, dict) and key in parts else value
    return Domain.model_validate(parts)


def synthesis(out: Path, script: Script | Scripted, shard: Shard | None = None, **changes: Any) -> Synthesis:
    """One that asks a scripted model in this process."""
    backend = script if isinstance(script, Scripted) else Scripted(script)
    return Synthesis(domain(**changes), [Model(backend.key, backend)], out, letters, shard or Shard())
