"""PRISM (Kirk et al. 2024): real people's preferences, from the official files, a part or the Hub."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fspo_bench.data.hub import OneSplit, find_files, hub_rows
from fspo_bench.data.tasks import PreferenceRow, Question, Rows, Split, User
from fspo_bench.data.texts import plain
from fspo_bench.errors import UserError

HUB_ID = "HannahRoseKirk/prism-alignment"
OFFICIAL = (1_500, 8_011, 68_371)  # people, conversations, answers
EMPTY = "EMPTY STRING"
HISTORY = 1_500  # characters of earlier turns
TEST_SHARE = 0.2

FACTS = {
    "age": "Is {}.",
    "gender": "Gender: {}.",
    "education": "Education: {}.",
    "employment_status": "Employment: {}.",
    "marital_status": "Marital status: {}.",
    "english_proficiency": "English: {}.",
    "religion": "Religion: {}.",
    "ethnicity": "Ethnicity: {}.",
    "birth_country": "Born in {}.",
    "reside_country": "Lives in {}.",
    "self_description": "Says of themselves: {}",
    "system_string": "Wants a language model to be like this: {}",
}
SURVEY = ("user_id", "self_description", "system_string", "age", "gender", "education", "employment_status",
          "marital_status", "english_proficiency", "religion", "ethnicity", "location")  # fmt: skip
CONVERSATIONS = ("user_id", "conversation_id", "opening_prompt")
UTTERANCES = ("conversation_id", "turn", "user_prompt", "model_response", "score", "if_chosen")
PAIRS = ("user_id", "conversation_id", "turn", "user_prompt", "chosen", "rejected", "min_score_margin")


@dataclass(frozen=True)
class Options:
    """Which preferences count."""

    turns: str = "first"
    """`first`: opening prompts, answered by up to four models; `all`: later turns too, with their history."""
    gap: int = 10
    """By how many points of 100 the chosen answer must be better."""
    min_conversations: int = 4
    """People with fewer conversations that hold a preference are left out."""
    min_shots: int = 4
    """People tested need so many preferences in the half of their conversations that gives their shots."""
    seed: int = 0
    """Of the split of people and of a test person's conversations."""

    def __post_init__(self) -> None:
        if self.turns not in ("first", "all"):
            raise ValueError(f"turns is '{self.turns}', must be 'first' or 'all'")
        if not 0 <= self.gap <= 99:
            raise ValueError(f"gap is {self.gap}, must be from 0 to 99 (scores go from 1 to 100)")
        if self.min_shots < 1:
            raise ValueError(f"min_shots is {self.min_shots}, must be at least 1")
        if self.min_conversations < 2:
            raise ValueError(f"min_conversations is {self.min_conversations}, must be at least 2: "
                             "one for shots and one to test on")  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A rated answer."""

    text: str
    score: float
    chosen: bool


@dataclass(frozen=True)
class Turn:
    """What was asked and the person's pairs (chosen, rejected) about it."""

    number: int
    prompt: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Talk:
    """A conversation with at least one pair."""

    user_id: str
    conversation_id: str
    opening: str
    turns: tuple[Turn, ...]


def load(data_dir: Path | None, options: Options) -> Rows:
    """Users, questions and preferences of PRISM.

    A folder with `pairs` (a part of PRISM without scores) is read from that file, any other from
    `conversations` and `utterances`; without a folder they come from the Hub.

    Raises:
        UserError: a file, column or line is not as published, or too few people are left.
    """
    descriptions = {str(row["user_id"]): describe(row) for row in _read("survey", SURVEY, data_dir)}
    if data_dir and (pairs := find_files(data_dir, _names("pairs"))):
        if options.turns != "first":
            raise UserError(f"{pairs[0]} has opening turns only; leave turns={options.turns} out")
        talks, whole = _part(data_dir, options), False
    else:
        talks, counts = _official(data_dir, options)
        whole = (len(descriptions), *counts) == OFFICIAL
    users, questions, preferences = _divide(_enough(talks, options), descriptions, options)
    announced = [] if whole else [f"partial PRISM, {len(descriptions):,} users"]
    return Rows(users, questions, preferences, "; ".join(announced + _changed(options)))


def describe(person: Mapping[str, Any]) -> str:
    """What the survey says of a person, a sentence each; nothing where they did not say."""
    said = {**person, **(person["location"] or {})}
    for key in ("religion", "ethnicity"):
        said[key] = (person[key] or {}).get("simplified")
    values = {key: " ".join(str(said.get(key) or "").split()) for key in FACTS}
    return " ".join(
        FACTS[key].format(value) for key, value in values.items() if value and value != "Prefer not to say"
    )


def _changed(options: Options) -> list[str]:
    """The options that are not the protocol's."""
    fields = dataclasses.fields(options)
    chosen = [f"{f.name}={getattr(options, f.name)}" for f in fields if getattr(options, f.name) != f.default]
    return [", ".join(chosen)] if chosen else []


def _names(name: str) -> tuple[str, str]:
    return name, f"data/{name}"


def _read(name: str, columns: Sequence[str], data_dir: Path | None) -> Iterator[dict[str, Any]]:
    return hub_rows(HUB_ID, name, "train", _names(name), columns, data_dir)


def _part(data_dir: Path, options: Options) -> list[Talk]:
    """Conversations of `pairs`, which says by how much at least the chosen answer was better."""
    openings: dict[tuple[str, str], str] = {}
    pairs: dict[tuple[str, str], dict[tuple[str, str], None]] = defaultdict(dict)
    for row in _read("pairs", PAIRS, data_dir):
        key, pair = (str(row["user_id"]), str(row["conversation_id"])), (row["chosen"], row["rejected"])
        counts = row["turn"] == 0 and (row["min_score_margin"] or 0) >= options.gap
        if counts and row["user_prompt"] and _is_pair(*pair):
            openings.setdefault(key, row["user_prompt"])
            if pair[::-1] not in pairs[key]:
                pairs[key][pair] = None
    return [
        Talk(user, talk, opening, (Turn(0, opening, tuple(pairs[user, talk])),))
        for (user, talk), opening in openings.items()
    ]


def _official(data_dir: Path | None, options: Options) -> tuple[list[Talk], tuple[int, int]]:
    """Conversations of the official files, and how many conversations and answers these hold."""
    opened = {
        str(row["conversation_id"]): (str(row["user_id"]), row["opening_prompt"])
        for row in _read("conversations", CONVERSATIONS, data_dir)
    }
    prompts: dict[str, dict[int, str]] = defaultdict(dict)
    answers: dict[tuple[str, int], list[Answer]] = defaultdict(list)
    n_answers = 0
    for row in _read("utterances", UTTERANCES, data_dir):
        n_answers += 1
        talk, number = str(row["conversation_id"]), int(_number(row, "turn"))
        prompts[talk][number] = row["user_prompt"]
        answers[talk, number] += _rated(row)
    talks = []
    for talk, (user, opening) in opened.items():
        asked = sorted({**prompts[talk], 0: opening}.items())
        turns = tuple(_turns([(n, prompt, answers[talk, n]) for n, prompt in asked], options))
        if turns:
            talks.append(Talk(user, talk, opening, turns))
    return talks, (len(opened), n_answers)


def _rated(row: Mapping[str, Any]) -> list[Answer]:
    """The answer, or nothing when it is empty or lacks its score or mark."""
    text, chosen = row["model_response"], row["if_chosen"]
    if row["score"] is None or chosen is None or not text or text == EMPTY:
        return []
    return [Answer(text, _number(row, "score"), bool(chosen))]


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row[key]
    if isinstance(value, int | float):
        return value
    raise UserError(
        f"PRISM utterances: an answer of conversation '{row['conversation_id']}' has the {key} '{value}', "
        "which is no number; give the files as they were published"
    )


def _turns(asked: Sequence[tuple[int, str, list[Answer]]], options: Options) -> Iterator[Turn]:
    """The turns with pairs, up to the first whose chosen answer is unknown: those behind lack a history."""
    history = ""
    for number, prompt, answers in asked[: 1 if options.turns == "first" else None]:
        best = max((a for a in answers if a.chosen), key=lambda a: a.score, default=None)
        if not prompt or not best:
            return
        if pairs := tuple(_pairs(best, answers, options.gap)):
            yield Turn(number, _recent(history) + prompt, pairs)
        history += f"User: {prompt}\nAssistant: {best.text}\n"


def _pairs(best: Answer, answers: Iterable[Answer], gap: int) -> Iterator[tuple[str, str]]:
    """The chosen answer against each other that is worse by the gap; never against one that is chosen too."""
    rejected = {a.text: None for a in answers if not a.chosen and best.score - a.score >= gap}
    yield from ((best.text, text) for text in rejected if _is_pair(best.text, text))


def _is_pair(chosen: str | None, rejected: str | None) -> bool:
    texts = {plain(chosen or ""), plain(rejected or "")}
    return len(texts) == 2 and not texts & {"", plain(EMPTY)}


def _recent(history: str) -> str:
    """The last characters of a history, from the start of a line."""
    if len(history) <= HISTORY:
        return history
    start = history.index("\n", len(history) - HISTORY - 1) + 1
    return history[start:]


def _enough(talks: Iterable[Talk], options: Options) -> dict[str, list[Talk]]:
    """The conversations of each person who has enough of them; none opens as an earlier one of theirs."""
    by_user: dict[str, dict[str, Talk]] = defaultdict(dict)
    for talk in sorted(talks, key=lambda talk: talk.conversation_id):
        by_user[talk.user_id].setdefault(plain(talk.opening), talk)
    return {
        user: list(own.values()) for user, own in by_user.items() if len(own) >= options.min_conversations
    }


def _divide(
    talks: Mapping[str, list[Talk]], descriptions: Mapping[str, str], options: Options
) -> tuple[list[User], list[Question], list[PreferenceRow]]:
    """Split people and conversations; texts of two splits stay with the first, test people coming first."""
    names = sorted(talks)
    random.Random(f"prism people {options.seed}").shuffle(names)
    n_test = max(1, round(TEST_SHARE * len(names)))
    of_user: dict[str, Split] = {name: "test" if n < n_test else "train" for n, name in enumerate(names)}
    kept, users, preferences = _Kept(), list[User](), list[PreferenceRow]()
    for name in sorted(names, key=lambda name: (of_user[name], name)):
        placed = _placed(talks[name], of_user[name], options.seed)
        rows = [(split, kept.keep(talk, split)) for split, talk in placed]
        held = Counter(split for split, own in rows if own)
        shots = sum(len(own) for split, own in rows if split == "train")
        enough = of_user[name] == "train" or shots >= options.min_shots
        if enough and held >= _places(options.min_conversations, of_user[name]):
            users.append(User(user_id=name, split=of_user[name], description=descriptions.get(name, "")))
            preferences += [row for _, own in rows for row in own]
    if {user.split for user in users} != {"train", "test"}:
        raise UserError(
            f"PRISM: {len(users)} people with at least {options.min_conversations} conversations with a "
            f"preference of gap {options.gap} are left, which are too few to train and test; give more data "
            "or set min_conversations, min_shots or gap lower"
        )
    asked = {row.question_id for row in preferences}
    return users, [q for q in kept.questions.values() if q.question_id in asked], preferences


def _places(n: int, of_user: Split) -> Counter[Split]:
    """How many of a person's conversations go where: of a test person's, half (rounded up) are for shots."""
    tested = n // 2 if of_user == "test" else 0
    return Counter({"train": n - tested, "test": tested})


def _placed(talks: Sequence[Talk], of_user: Split, seed: int) -> Iterator[tuple[Split, Talk]]:
    splits = sorted(_places(len(talks), of_user).elements())
    random.Random(f"prism conversations {seed} {talks[0].user_id}").shuffle(splits)
    return zip(splits, talks, strict=True)


class _Kept:
    """The questions kept so far; a prompt or an answer belongs to the split that had it first."""

    def __init__(self) -> None:
        self.questions: dict[str, Question] = {}
        self._prompts, self._answers = OneSplit(), OneSplit()
        self._group: dict[str, str] = {}

    def keep(self, talk: Talk, split: Split) -> list[PreferenceRow]:
        """A conversation's rows; those who open alike share a question, and a group with all later turns."""
        if not self._prompts.claim(split, talk.opening):
            return []
        group = self._group.setdefault(plain(talk.opening), talk.conversation_id)
        rows = []
        for turn in talk.turns:
            pairs = [pair for pair in turn.pairs if self._answers.claim(split, *pair)]
            if not pairs or not self._prompts.claim(split, turn.prompt):
                continue
            question = self._question(talk, turn, split, group)
            if question.group == group:
                rows += [
                    PreferenceRow(
                        user_id=talk.user_id, question_id=question.question_id, chosen=c, rejected=r
                    )
                    for c, r in pairs
                ]
        return rows

    def _question(self, talk: Talk, turn: Turn, split: Split, group: str) -> Question:
        name = f"{talk.conversation_id}/{turn.number}" if turn.number else talk.conversation_id
        question = Question(question_id=name, split=split, prompt=turn.prompt, group=group)
        return self.questions.setdefault(plain(turn.prompt), question)
