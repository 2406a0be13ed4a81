"""The paper's own data (FSPO, arXiv 2502.19312) as a task's rows: every row kept, nothing leaking.

The official loader shuffles each user's rows, skips one of each run and may ask a shot's question
again; here each published row becomes one preference. What cannot be one is left out and counted in
the note beside every number.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fspo_bench.data.hub import OneSplit, hub_rows
from fspo_bench.data.tasks import PreferenceRow, Question, Rows, Split, User, UserSplit
from fspo_bench.data.texts import plain
from fspo_bench.errors import UserError
from fspo_bench.store import digest

HubSplit = Literal["train", "test"]
HUB_SPLITS: tuple[HubSplit, ...] = ("test", "train")  # test first: what is held out is settled first
SCORED = ("prompt", "response_x", "response_y", "label", "scorer_level")
ROLEPLAY = ("x", "yw", "yl", "level", "score_persona")


@dataclass(frozen=True, slots=True)
class Labelled:
    """One published row: who prefers what to what; texts are interned, as each stands in many rows."""

    hub_split: HubSplit
    user_id: str
    prompt: str
    chosen: str
    rejected: str
    description: str = ""


ReadRow = Callable[[Mapping[str, Any], HubSplit], "Labelled | None"]
SplitOf = Callable[[str, "set[HubSplit]"], UserSplit]


def scored(row: Mapping[str, Any], hub_split: HubSplit) -> Labelled | None:
    """A row of ELIX or Reviews: label 0 says that the scorer prefers x, 1 that it prefers y.

    The scorer's name (a level of schooling, a taste) is all that is published of the user.
    """
    needed = [row[key] for key in ("scorer_level", "prompt", "response_x", "response_y")]
    if any(value in (None, "") for value in needed) or row["label"] not in (0, 1):
        return None
    user, prompt, x, y = (sys.intern(str(value)) for value in needed)
    chosen, rejected = (y, x) if row["label"] else (x, y)
    return Labelled(hub_split, user, prompt, chosen, rejected, description=user)


def roleplayed(row: Mapping[str, Any], hub_split: HubSplit) -> Labelled | None:
    """A row of Roleplay: `yw` wins over `yl`; the persona's description comes with each row."""
    needed = [row[key] for key in ("level", "x", "yw", "yl")]
    if any(value in (None, "") for value in needed):
        return None
    persona = row["score_persona"]
    description = persona.get("persona_description") if isinstance(persona, Mapping) else persona
    user, prompt, chosen, rejected = (sys.intern(str(value)) for value in needed)
    return Labelled(hub_split, user, prompt, chosen, rejected, sys.intern(str(description or "")))


def as_published(user_id: str, stands_in: set[HubSplit]) -> UserSplit:
    """A user of both published splits is trained on and tested on; the others as published."""
    return "seen" if len(stands_in) == 2 else next(iter(stands_in))


def paper_rows(
    hub_id: str, data_dir: Path | None, columns: Sequence[str], read: ReadRow, split_of: SplitOf
) -> Rows:
    """Users, questions and preferences of one of the paper's data sets.

    A prompt of the published test split is held out, also where it stands in both. Where that leaves a
    tested user without a question for shots, half of these users' prompts serve as such.

    Raises:
        UserError: a file, column or line is not as published, or nothing can be tested.
    """
    dropped: Counter[str] = Counter()
    rows = list(_labelled(hub_id, data_dir, columns, read, dropped))
    users = _users(rows, split_of)
    rows = list(_distinct(rows, dropped))
    questions, shared = _questions(rows, users)
    kept = list(_apart(rows, users, questions, dropped))
    users, kept = _able(users, kept, questions, dropped)
    if not any(u.split != "train" for u in users.values()):
        raise UserError(
            f"{hub_id}: no user has preferences about questions of both splits; give both its train "
            "and its test file as they were published"
        )
    asked = {row.question_id for row in kept}
    notes = [f"{count:,} {what}" for what, count in sorted(dropped.items()) if count]
    note = f"left out: {', '.join(notes)}" if notes else ""
    if shared:
        note = "; ".join(filter(None, ["half of the held-out prompts serve as shots", note]))
    used = [question for question in questions.values() if question.question_id in asked]
    return Rows(list(users.values()), used, kept, note)


def _labelled(
    hub_id: str, data_dir: Path | None, columns: Sequence[str], read: ReadRow, dropped: Counter[str]
) -> Iterator[Labelled]:
    for split in HUB_SPLITS:
        files = (split, f"data/{split}", f"{split}-*", f"data/{split}-*")
        for row in hub_rows(hub_id, None, split, files, columns, data_dir):
            if labelled := read(row, split):
                yield labelled
            else:
                dropped["rows without a text or label"] += 1


def _distinct(rows: Sequence[Labelled], dropped: Counter[str]) -> Iterator[Labelled]:
    """Without equal sides, repeats, and rows that say the opposite of an earlier one."""
    seen: set[tuple[str, str, str, str]] = set()
    for row in rows:
        key = (row.user_id, plain(row.prompt), row.chosen, row.rejected)
        if plain(row.chosen) == plain(row.rejected):
            dropped["rows with equal answers"] += 1
        elif key in seen:
            dropped["repeated rows"] += 1
        elif (*key[:2], row.rejected, row.chosen) in seen:
            dropped["rows against an earlier one"] += 1
        else:
            seen.add(key)
            yield row


def _users(rows: Sequence[Labelled], split_of: SplitOf) -> dict[str, User]:
    stands_in: dict[str, set[HubSplit]] = defaultdict(set)
    descriptions: dict[str, str] = {}
    for row in rows:
        stands_in[row.user_id].add(row.hub_split)
        descriptions.setdefault(row.user_id, row.description)
    return {
        user: User(user_id=user, split=split_of(user, stands_in[user]), description=descriptions[user])
        for user in sorted(stands_in)
    }


def _questions(rows: Sequence[Labelled], users: Mapping[str, User]) -> tuple[dict[str, Question], bool]:
    """By prompt; and whether held-out prompts had to serve as shots."""
    prompts: dict[str, str] = {}
    held_out: set[str] = set()
    of_tested: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        key = plain(row.prompt)
        prompts.setdefault(key, row.prompt)
        if row.hub_split == "test":
            held_out.add(key)
        if users[row.user_id].split != "train":
            of_tested[row.user_id].add(key)
    without_shots = [asked for asked in of_tested.values() if asked <= held_out]
    ids = {key: digest(key)[:16] for key in prompts}
    held_out -= set(sorted(set().union(*without_shots), key=ids.__getitem__)[::2])
    splits: dict[str, Split] = {key: "test" if key in held_out else "train" for key in prompts}
    questions = {
        key: Question(question_id=ids[key], split=splits[key], prompt=prompt)
        for key, prompt in prompts.items()
    }
    return questions, bool(without_shots)


def _apart(
    rows: Sequence[Labelled], users: Mapping[str, User], questions: Mapping[str, Question],
    dropped: Counter[str],
) -> Iterator[PreferenceRow]:  # fmt: skip
    """Without rows of train users about test questions, and without answers of two splits."""
    texts = OneSplit()
    for row in rows:
        question = questions[plain(row.prompt)]
        if users[row.user_id].split == "train" and question.split == "test":
            dropped["train users' rows about held-out prompts"] += 1
        elif not texts.claim(question.split, row.chosen, row.rejected):
            dropped["rows with an answer of the other split"] += 1
        else:
            yield PreferenceRow(
                user_id=row.user_id, question_id=question.question_id,
                chosen=row.chosen, rejected=row.rejected,
            )  # fmt: skip


def _able(
    users: Mapping[str, User], rows: Sequence[PreferenceRow], questions: Mapping[str, Question],
    dropped: Counter[str],
) -> tuple[dict[str, User], list[PreferenceRow]]:  # fmt: skip
    """The users who can play their part, with their rows: tested ones need shots and held-out questions."""
    split_of = {question.question_id: question.split for question in questions.values()}
    asked: dict[str, set[Split]] = defaultdict(set)
    for row in rows:
        asked[row.user_id].add(split_of[row.question_id])
    able = {
        name: user for name, user in users.items()
        if len(asked[name]) == 2 or (user.split == "train" and asked[name])
    }  # fmt: skip
    dropped["users without questions of both splits"] += len(users) - len(able)
    return able, [row for row in rows if row.user_id in able]
