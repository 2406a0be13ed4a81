"""The task folder: what is left of the stages after the last filters, streamed from file to file.

A pair is kept where all orders and repeats of the user's last labels agree. A user is kept who has enough of
them for the shots and a query.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import yaml

from fspo_bench.data.new_task import compress
from fspo_bench.data.texts import plain
from fspo_bench.errors import Stopped
from fspo_bench.store import building
from fspo_bench.synth.domain import Domain
from fspo_bench.synth.files import Row, rows_of
from fspo_bench.synth.labels import settled
from fspo_bench.synth.pool import Pool, number_of
from fspo_bench.synth.stage import dropped

STAGES = ("questions", "personas", "responses", "labels")
FILES = ("users", "questions", "preferences")
USER_KEYS = ("user_id", "split", "group")
QUESTION_KEYS = ("question_id", "split", "prompt", "kind")
WHY = {
    "flip": "the order of the answers decides",
    "tie": "the description leaves it open",
    "invalid": "no verdict could be read",
}
REPEATS_DIFFER = "repeated labels differ"
TWO_SPLITS = "one of the texts also answers a question of the other split"

Put = Callable[[str, Row], None]


@dataclass
class Made:
    """What became of the stages."""

    users: Counter[str] = field(default_factory=Counter)
    """By split."""
    questions: Counter[str] = field(default_factory=Counter)
    preferences: int = 0
    pairs: int = 0
    """That were labelled."""
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By stage and reason."""

    def figures(self) -> list[tuple[str, int]]:
        """(what, how many), for the screen and the data card."""
        kept = [
            *((f"{split} users", count) for split, count in sorted(self.users.items())),
            *((f"{split} questions", count) for split, count in sorted(self.questions.items())),
            ("pairs labelled", self.pairs),
            ("preferences kept", self.preferences),
        ]
        lost = sorted(self.dropped.items())
        return kept + [(f"dropped ({stage}): {why}", count) for (stage, why), count in lost]


def write_task(domain: Domain, stages: Path, out: Path, models: Sequence[str]) -> Made:
    """Write the task folder from the finished stages; `task.yaml` comes last.

    Raises:
        Stopped: too little is left for a task; none is written then.
    """
    shutil.rmtree(stages / "task", ignore_errors=True)
    with building(stages / "task") as scratch:
        made = _filtered(domain, stages, scratch)
        (scratch / "dropped.jsonl").replace(stages / "dropped.jsonl")
        _enough(made, domain, stages)
        compress(scratch / "preferences.jsonl")
        (scratch / "README.md").write_text(_card(domain, out.name, models, made), encoding="utf-8")
        (scratch / "made.json").write_text(json.dumps(made.figures()), encoding="utf-8")
        spec = yaml.safe_dump(_spec(domain, models), sort_keys=False, allow_unicode=True)
        (scratch / "task.yaml").write_text(spec, encoding="utf-8")
    (stages / "task" / "made.json").replace(stages / "made.json")
    for file in sorted((stages / "task").iterdir(), key=lambda file: (file.name == "task.yaml", file.name)):
        file.replace(out / file.name)
    (stages / "task").rmdir()
    return made


def _filtered(domain: Domain, stages: Path, scratch: Path) -> Made:
    """The rows of users, questions, preferences and of what was dropped."""
    made, used = Made(), set[str]()
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with ExitStack() as stack:
        out = {
            name: stack.enter_context((scratch / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n"))
            for name in (*FILES, "dropped")
        }

        def put(name: str, row: Row) -> None:
            out[name].write(encode(row) + "\n")
            if name == "dropped":
                made.dropped[row["stage"], row["why"].partition(" (")[0]] += 1

        for stage in STAGES:
            for row in rows_of(stages / f"dropped.{stage}.jsonl"):
                put("dropped", row)
        pool, both = Pool(stages), _in_both_splits(stages)
        labels, refinements = _ByUser(stages / "labels.jsonl"), _ByUser(stages / "refinements.jsonl")
        for user in rows_of(stages / "personas.jsonl"):
            grown = refinements.of(user["user_id"])
            description = grown[-1]["description"] if grown else user["description"]
            kept = list(_preferences(labels.of(user["user_id"]), pool, both, put, made))
            if why := _too_few(user["split"], kept, domain.shots):
                put("dropped", dropped("users", user["user_id"], why)[1])
                continue
            put("users", {**{key: user[key] for key in USER_KEYS}, "description": description})
            made.users[user["split"]] += 1
            for _, row in kept:
                put("preferences", row)
                used.add(row["question_id"])
            made.preferences += len(kept)
        for row in rows_of(stages / "questions.jsonl"):
            if row["question_id"] in used:
                put("questions", {key: row[key] for key in QUESTION_KEYS})
                made.questions[row["split"]] += 1
    return made


class _ByUser:
    """A file's rows by user, asked for in the file's own order of users."""

    def __init__(self, file: Path) -> None:
        self._groups = groupby(rows_of(file), lambda row: row["user_id"])
        self._next = next(self._groups, None)

    def of(self, user_id: str) -> list[Row]:
        if self._next is None or self._next[0] != user_id:
            return []
        rows = list(self._next[1])
        self._next = next(self._groups, None)
        return rows


def _preferences(
    labels: Sequence[Row], pool: Pool, both: set[int], put: Put, made: Made
) -> Iterator[tuple[str, Row]]:
    """(split of the question, preference) of the pairs whose last labels agree."""
    last = max((row["refinement"] for row in labels), default=0)
    rows = (row for row in labels if row["refinement"] == last)
    for (question_id, a, b), repeats in groupby(rows, lambda row: (row["question_id"], row["a"], row["b"])):
        made.pairs += 1
        of_pair = list(repeats)
        outcomes = [row["outcome"] for row in of_pair]
        question, answers = pool.asked(number_of(question_id))
        texts = {row["answer_id"]: row["text"] for row in answers}
        chosen = settled(outcomes)
        if chosen is None:
            why = WHY[outcomes[0]] if len(set(outcomes)) == 1 else REPEATS_DIFFER
        else:
            why = TWO_SPLITS if both and not both.isdisjoint({_hash(texts[a]), _hash(texts[b])}) else ""
        if why:
            put("dropped", dropped("pairs", f"{of_pair[0]['user_id']}/{a}|{b}", why)[1])
            continue
        best, other = (a, b) if chosen == "a" else (b, a)
        yield question["split"], {
            "user_id": of_pair[0]["user_id"], "question_id": question_id, "chosen": texts[best],
            "rejected": texts[other],
        }  # fmt: skip


def _too_few(split: str, kept: Sequence[tuple[str, Row]], shots: int) -> str:
    """Why a user with these preferences can be neither trained on nor tested, or nothing."""
    train = [row["question_id"] for side, row in kept if side == "train"]
    if split in ("test", "seen") and (len(train) < shots or len(train) == len(kept)):
        return f"fewer than {shots} shots, or no preference to be tested on"
    if split in ("train", "seen") and len(set(train)) <= shots:
        return f"too few preferences for {shots} shots and a query"
    return ""


def _in_both_splits(stages: Path) -> set[int]:
    """Hashes of texts that answer train questions and test questions: a text belongs to one split."""
    splits = [row["split"] for row in rows_of(stages / "questions.jsonl")]
    hashes = {"train": array("Q"), "test": array("Q")}
    for row in rows_of(stages / "responses.jsonl"):
        hashes[splits[number_of(row["question_id"])]].append(_hash(row["text"]))
    return set(np.intersect1d(hashes["train"], hashes["test"]).tolist())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(plain(text).encode(), digest_size=8).digest(), "big")


def _enough(made: Made, domain: Domain, stages: Path) -> None:
    trained, tested = (made.users[split] + made.users["seen"] for split in ("train", "test"))
    if trained and tested and made.questions["train"] and made.questions["test"]:
        return
    lost = made.dropped.most_common(1)
    most = f"; most was lost to: {lost[0][0][1]} ({lost[0][1]:,})" if lost else ""
    raise Stopped(
        f"no task: {trained} users to train on and {tested} to test are left with enough preferences for "
        f"{domain.shots} shots and a query, of {made.preferences:,} kept and {made.pairs:,} labelled{most}; "
        f"see {stages / 'dropped.jsonl'}, and make the task with a stronger model, or more questions a user"
    )


def _spec(domain: Domain, models: Sequence[str]) -> Row:
    return {
        "version": 1,
        "summary": domain.summary,
        "license": domain.license,
        "source": f"made by fspo-bench synth with {', '.join(models)}",
        "instruction": domain.instruction,
        "max_new_tokens": domain.max_new_tokens,
        "shots": domain.shots,
    }


def _card(domain: Domain, name: str, models: Sequence[str], made: Made) -> str:
    figures = "\n".join(f"| {what} | {count:,} |" for what, count in made.figures())
    without = f", without {', '.join(domain.without)}" if domain.without else ""
    return f"""# {name}

{domain.summary} Made by `fspo-bench synth` with {", ".join(models)}{without}. Every user and every preference
is a model's: what a language model says that a described person would prefer, not what people prefer.

**Splits.** By user and by question. Train users are asked about train questions only; test users show their
preferences about train questions and are asked about test questions.

**How.** The stages are in `.synth/`, with the domain file (`domain.yaml`) and all that was taken away and why
(`dropped.jsonl`). `fspo-bench synth-report` measures them.

| figure | value |
|---|---|
{figures}

Licence: {domain.license}
"""
