"""Micro versions of tasks: the same users, questions and labels, in a language of a few hundred words.

A task that has a `micro.yaml` can be opened with `--source micro`. Users, traits, splits, loadings and so
every label stay as they are (a few fixed users become several each, who differ in what they show); only
the texts are written anew: a question is two things it is about, an answer names them and then says, word
by word, which traits it speaks to. A model of a million weights can read and write that, so the mechanism
of every method can be tried in seconds. Nothing measured on such texts says anything about language: it
checks mechanisms, and tables say so.

    micro.yaml     instruction: advise
                   traits: {thrift: {"+": [cheap, ...], "-": [lavish, ...]}}   words of a trait's two ends
                   levels: {1: [toy, ...], 2: [...]}                           words of a scale's levels
                   copies: 16                                                  users for each of the task's

                   families: {exact: [physics, ...]}                           kinds that share a name

A user with a level for each kind of question has each level's words for each family of kinds: `toy_exact`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from fspo_bench.data.tasks import Answer, Row, Task
from fspo_bench.errors import UserError
from fspo_bench.store import digest

FILE = "micro.yaml"
VERSION = 3  # raise when a text, or what the judge makes of one, can change
MAX_NEW_TOKENS = 16
WORDS_OF_A_LEVEL = 2
MOST = 2  # words of one trait in an answer; more are worth no more
ON_QUESTION = 0.4  # an answer takes up more of its question's words
ROUND = 0.3  # of an answer's words stand there a second time, at most
LEAST_TRAIT = 1.0  # of a user, to be named in the description

TOPICS = (
    "anchor", "apple", "bell", "boat", "bread", "bridge", "bucket", "candle", "castle", "chair",
    "clock", "cloud", "comet", "drum", "feather", "fence", "flute", "fossil", "glove", "harbour",
    "honey", "kettle", "key", "ladder", "lamp", "lemon", "marble", "mirror", "moss", "needle",
    "oven", "pebble", "pepper", "piano", "river", "saddle", "salt", "shell", "spade", "thread",
)  # fmt: skip
WEAK = ("whatever", "somehow", "anyway", "stuff")
"""Words of an answer that is weak for everybody."""


class Lexicon(Row):
    """`micro.yaml`."""

    instruction: str
    """One word that tells the tasks apart."""
    traits: dict[str, dict[str, list[str]]] = Field(default={})
    levels: dict[int, list[str]] = Field(default={})
    families: dict[str, list[str]] = Field(default={})
    copies: int = Field(default=1, ge=1)
    """Users of each kind: a handful of fixed users tells nothing at any number of answers."""

    def family(self, kind: str) -> str:
        """The name that a kind of question goes by."""
        return next((name for name, kinds in self.families.items() if kind in kinds), kind)

    def wants(self, traits: Mapping[str, float]) -> dict[str, float]:
        """A user's traits, those of a family together as their mean."""
        together: dict[str, list[float]] = defaultdict(list)
        for kind, x in traits.items():
            together[self.family(kind)].append(x)
        return {name: sum(xs) / len(xs) for name, xs in together.items()}

    @property
    def words(self) -> list[str]:
        """All of them."""
        return list(self.meanings)

    @cached_property
    def meanings(self) -> dict[str, str]:
        """What each word says: an end of a trait, or a level."""
        ends = {f"{trait} {end}": words for trait, of in self.traits.items() for end, words in of.items()}
        said = {**ends, **{f"level {level}": words for level, words in self.levels.items()}}
        return {word: meaning for meaning, words in said.items() for word in words}

    def meaning(self, word: str, asked: Collection[str]) -> str:
        """What a word says in an answer to a question; a family's word says nothing of another."""
        level, _, kind = word.partition("_")
        return "weak" if word in WEAK else self.meanings.get(level, "") if not kind or kind in asked else ""

    def read(self, question: str, answer: str) -> dict[str, float]:
        """Loadings of an answer by its words: the mean of its levels, or each trait's words for it less those
        against it. None where it is weak: says something weak, or keeps off the question, or goes round."""
        words, asked = answer.split(), set(question.split())
        said = [m for word in words if (m := self.meaning(word, asked))]
        on_it = len(asked & set(words)) / len(asked) > ON_QUESTION
        round_it = 1 - len(set(words)) / max(1, len(words)) > ROUND
        if "weak" in said or round_it or not on_it:
            return {}
        ends = [m.split() for m in said]
        if levels := [float(end) for what, end in ends if what == "level"]:
            return {"level": sum(levels) / len(levels)}
        signed = {t: ends.count([t, "+"]) - ends.count([t, "-"]) for t in self.traits}
        return {t: float(max(-MOST, min(MOST, n))) for t, n in signed.items() if n}


def read_lexicon(folder: Path) -> Lexicon:
    """A task folder's `micro.yaml`."""
    file = folder / FILE
    try:
        return Lexicon.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"task {folder.name} has no micro version (no {file}); leave --source out") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise UserError(f"{file}: {str(error).splitlines()[0]}") from None


def micro(task: Task) -> Task:
    """The micro version of a task whose labels follow from traits."""
    lexicon = read_lexicon(task.folder)
    writer = Writer(lexicon, task.spec.nearest)
    ids = sorted(task.questions, key=lambda q: digest([task.name, q]))
    topics = {q: (TOPICS[n % len(TOPICS)], TOPICS[(n // len(TOPICS) + n + 1) % len(TOPICS)])
              for n, q in enumerate(ids)}  # fmt: skip
    kinds = {k for u in task.users.values() for k in u.traits}

    def kind_of(question_id: str) -> str:
        kind = task.questions[question_id].kind
        return lexicon.family(kind) if kind in kinds else ""

    questions = {
        q: question.model_copy(update={"prompt": writer.question(topics[q], kind_of(q))})
        for q, question in task.questions.items()
    }
    answers: dict[str, Answer] = {}
    taken: set[tuple[str, str]] = set()
    for a in task.answers.values():
        drafts = (writer.answer(topics[a.question_id], kind_of(a.question_id), a, n) for n in count())
        text = next(draft for draft in drafts if (a.question_id, draft) not in taken)
        taken.add((a.question_id, text))
        answers[a.answer_id] = a.model_copy(update={"text": text})
    ids_of = {u: [u, *(f"{u}~{n}" for n in range(2, lexicon.copies + 1))] for u in task.users}
    users = {
        id_: u.model_copy(update={"user_id": id_, "description": writer.description(lexicon.wants(u.traits))})
        for u in task.users.values()
        for id_ in ids_of[u.user_id]
    }
    spec = task.spec.model_copy(
        update={
            "instruction": lexicon.instruction,
            "max_new_tokens": MAX_NEW_TOKENS,
            "judge_reads": "lexicon",
        }
    )
    return replace(
        task, spec=spec, questions=questions, answers=answers, users=users,
        hash=digest(["micro", VERSION, task.hash, lexicon.model_dump()]),
        note="micro version: a mechanism check in a made-up language, not a measurement",
    )  # fmt: skip


@dataclass(frozen=True)
class Writer:
    """Writes texts in the micro language."""

    lexicon: Lexicon
    scale: str = ""

    def question(self, topic: Sequence[str], kind: str = "") -> str:
        return " ".join([*([kind] if kind else []), *topic, "?"])

    def answer(self, topic: Sequence[str], kind: str, answer: Answer, draft: int = 0) -> str:
        """The same words for the same draft every time; on a scale the kind stands before the level's."""
        rng = random.Random(f"{answer.answer_id} {draft}")
        words = self.words(kind, answer.loadings, rng)
        if answer.weak:
            words += rng.sample(WEAK, 2)
        return " ".join([*topic, ":", *([kind] if kind and self.scale else []), *words, "."])

    def words(self, kind: str, loadings: Mapping[str, float], rng: random.Random) -> list[str]:
        """A trait's words as often as it is strong, in random order."""
        chosen = []
        for trait, x in loadings.items():
            if trait == self.scale:
                chosen += rng.sample([of_kind(w, kind) for w in self.lexicon.levels[round(x)]],
                                     WORDS_OF_A_LEVEL)  # fmt: skip
            else:
                end = self.lexicon.traits[trait]["+" if x > 0 else "-"]
                chosen += rng.sample(end, min(len(end), round(abs(x) + 0.01)))
        return rng.sample(chosen, len(chosen))

    def description(self, traits: Mapping[str, float]) -> str:
        """What a user wants, in the first words of the traits' ends or the levels."""
        if self.scale:
            named = [of_kind(self.lexicon.levels[round(x)][0], "" if kind == self.scale else kind)
                     for kind, x in traits.items()]  # fmt: skip
        else:
            strong = {t: "+" if x > 0 else "-" for t, x in traits.items() if abs(x) >= LEAST_TRAIT}
            named = [self.lexicon.traits[trait][end][0] for trait, end in strong.items()]
        return " ".join([*named, "."])


def of_kind(word: str, kind: str) -> str:
    """A level's word in one family: `term_exact` is not said of music."""
    return f"{word}_{kind}" if kind else word
