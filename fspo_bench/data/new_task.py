"""A person's own file of preferences becomes a task folder: `fspo-bench new-task FILE --out DIR`.

FILE (.jsonl, .jsonl.gz, .csv, .parquet) has four columns: who, the prompt, the preferred text, the other.
Texts that differ only in case and white space are one text here, as they are to `fspo-bench validate`.
Splits follow a hash of the seed and the user's id or the prompt, so a longer file keeps them.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from fspo_bench.data.preference_files import Columns, Table, read_preferences
from fspo_bench.data.preference_files import fault as fault_of
from fspo_bench.data.texts import plain
from fspo_bench.errors import UserError
from fspo_bench.store import building, digest

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Mask = NDArray[np.bool_]
Units = NDArray[np.float64]
Codes = NDArray[np.int64]
SHOTS = 4  # rows about train questions that every user must have beside a query
LONG = 20_000  # characters
GZIP_ABOVE = 50_000_000  # bytes


@dataclass
class Report:
    """What became of the rows: `read` is `kept` and all of `dropped`, each under the rule that took it."""

    out: Path
    read: int
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason: rows
    users: dict[str, int] = field(default_factory=dict)  # by split; `tiny`, `short`: dropped
    questions: dict[str, int] = field(default_factory=dict)  # by split
    moved: int = 0  # users drawn for the test who cannot be tested, and train instead
    long: int = 0  # kept rows with a very long text

    def figures(self) -> list[tuple[str, int]]:
        """(what, how many), for the screen and the data card."""
        always = [(f"{split} users", self.users[split]) for split in ("train", "test")]
        always += [(f"{split} questions", self.questions[split]) for split in ("train", "test")]
        always += [("rows read", self.read), ("rows kept", self.kept)]
        counted = [(f"rows dropped: {why}", count) for why, count in self.dropped.items()]
        counted += [
            ("users dropped: too few preferences", self.users["tiny"]),
            (f"users dropped: too few rows for {SHOTS} shots and a query", self.users["short"]),
            ("users drawn for the test but made train users: too few rows to test", self.moved),
            (f"rows kept with a text of over {LONG:,} characters", self.long),
        ]
        return always + [(what, count) for what, count in counted if count]

    def lines(self) -> list[str]:
        """What to print."""
        return [f"wrote {self.out}", *(f"  {what}: {count:,}" for what, count in self.figures())]


def new_task(
    file: Path, out: Path, columns: Columns, test_share: float, min_preferences: int, seed: int, license: str
) -> Report:
    """Write the task folder `out` from the preferences in `file`; what was kept and what was dropped.

    Raises:
        UserError: what is wrong with the options, the file or the folder; nothing is written then.
    """
    _check_options(columns, test_share, min_preferences, license)
    out = _free(out)
    table = read_preferences(file, columns)
    report = Report(out, len(table.users))
    rows, users, prompts = _coded(table)
    rows = _cleaned(rows, min_preferences, report)
    asked = np.bincount(rows["question"], minlength=len(prompts)) > 0
    test_question = _drawn(_unit("questions", seed, prompts), test_share, asked, asked)
    rows = _unleaked(rows, test_question, report)
    rows, test_user = _seated(rows, test_question, _unit("users", seed, users), test_share, report)
    _count(rows, table, test_user, test_question, report)
    if not report.users["train"] or not report.users["test"]:  # with them there are questions
        raise UserError(_too_few(file, report))
    try:
        with building(out) as scratch:
            _write(scratch, rows, table, test_user, test_question)
            options = f"--seed {seed} --test-share {test_share} --min-preferences {min_preferences}"
            _describe(scratch, file.name.encode(errors="replace").decode(), options, license, report)
            if out.is_dir():  # empty when looked at; should it have filled up since, this fails
                out.rmdir()
    except OSError as error:
        raise UserError(f"cannot write '{out}' ({error.strerror or error})") from None
    return report


def _check_options(columns: Columns, test_share: float, min_preferences: int, license: str) -> None:
    if not 0 < test_share < 1:
        raise UserError(f"--test-share {test_share}: must lie between 0 and 1, such as 0.2")
    if min_preferences < 1:
        raise UserError(f"--min-preferences {min_preferences}: must be at least 1")
    if fault := fault_of(license):
        raise UserError(f"--license: {fault}; name the licence of the texts, such as CC-BY-4.0")
    for name in columns:
        if columns.count(name) > 1:
            raise UserError(
                f"column '{name}' is named twice; user, prompt, chosen, rejected are four columns"
            )


def _free(out: Path) -> Path:
    """The folder to write, which must not exist or be empty."""
    try:
        out = out.resolve()
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()) or out == Path.cwd())
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write '{out}' ({error})") from None
    if taken:
        raise UserError(f"'{out}' exists and is not an empty folder to replace; give --out a new one")
    return out


def _coded(table: Table) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The rows with numbers for users, prompts and texts; the users and plain prompts by number."""
    import pandas as pd

    users, user_ids = _codes(table.users)
    questions, prompts = _codes(map(plain, table.prompts))
    texts, _ = _codes(map(plain, chain(table.chosen, table.rejected)))
    chosen, rejected = np.split(texts, 2)
    rows = {"user": users, "question": questions, "chosen": chosen, "rejected": rejected}
    return pd.DataFrame(rows), user_ids, prompts


def _codes(texts: Iterable[str]) -> tuple[Codes, list[str]]:
    """Each text's number and the texts by number.

    A dict, since pandas before 3 takes texts that differ after a NUL for one.
    """
    seen: dict[str, int] = {}
    return np.fromiter((seen.setdefault(text, len(seen)) for text in texts), np.int64), list(seen)


def _unit(what: str, seed: int, texts: list[str]) -> Units:
    """A number from 0 to 1 for each text, the same in any file."""
    import pandas as pd

    key = digest([what, seed])[:16]
    hashes = pd.util.hash_array(np.array(texts, dtype=object), hash_key=key, categorize=False)
    return np.asarray(hashes / 2.0**64)


def _drawn(unit: Units, share: float, can_test: Mask, can_train: Mask) -> Mask:
    """Which are for the test; where chance leaves a side empty, the nearest that can be there goes there."""
    drawn = (unit < share) & can_test
    if can_test.any() and not drawn.any():
        drawn[np.where(can_test, unit, 2).argmin()] = True
    if can_train.any() and not (can_train & ~drawn).any():
        drawn[np.where(can_train, unit, -1).argmax()] = False
    return drawn


def _without(rows: pd.DataFrame, bad: ArrayLike, why: str, report: Report) -> pd.DataFrame:
    mask = np.asarray(bad, dtype=bool)
    report.dropped[why] = int(mask.sum())
    kept: pd.DataFrame = rows[~mask]
    return kept


def _cleaned(rows: pd.DataFrame, min_preferences: int, report: Report) -> pd.DataFrame:
    """Rows that say something, of users who say enough."""
    rows = _without(rows, rows["chosen"] == rows["rejected"], "ties (both texts are the same)", report)
    rows = _without(rows, rows.duplicated(), "duplicates of an earlier row", report)
    sides = rows[["chosen", "rejected"]].to_numpy()
    both_ways = rows.assign(chosen=sides.min(1), rejected=sides.max(1)).duplicated(keep=False)
    rows = _without(rows, both_ways, "contradictions (the user prefers either text to the other)", report)
    tiny = rows.groupby("user")["user"].transform("size") < min_preferences
    report.users["tiny"] = rows["user"][tiny].nunique()
    return _without(rows, tiny, f"of users with fewer than {min_preferences} preferences", report)


def _unleaked(rows: pd.DataFrame, test_question: Mask, report: Report) -> pd.DataFrame:
    """Without the rows about test questions that hold a text of a train question."""
    about_test = test_question[rows["question"]]
    sides = rows[["chosen", "rejected"]]
    leaks = about_test & sides.isin(np.unique(sides[~about_test])).any(axis=1)
    return _without(rows, leaks, "about a test question, with a text that a train question has too", report)


def _seated(
    rows: pd.DataFrame, test_question: Mask, unit: Units, share: float, report: Report
) -> tuple[pd.DataFrame, Mask]:
    """The rows that each user may keep, and which users are tested.

    A train user's query never shares a question with the shots, so in whatever order they are drawn there
    must be shots enough beside the question with the most rows.
    """
    about_test = test_question[rows["question"]]
    queries = np.bincount(rows["user"][about_test], minlength=len(unit))
    sizes = rows[~about_test].groupby(["user", "question"]).size().groupby("user").agg(["sum", "max"])
    shots, most = sizes.reindex(range(len(unit)), fill_value=0).to_numpy().T
    can_train, can_test = shots - most >= SHOTS, (shots >= SHOTS) & (queries > 0)
    tested = _drawn(unit, share, can_test, can_train)
    report.moved = int(((unit < share) & ~can_test & can_train).sum())
    short = ~(tested | can_train)[rows["user"]]
    report.users["short"] = rows["user"][short].nunique()
    rows = _without(rows, short, f"of users with too few for {SHOTS} shots and a query", report)
    held_out = ~tested[rows["user"]] & test_question[rows["question"]]
    return _without(rows, held_out, "of train users about test questions (held out)", report), tested


def _count(rows: pd.DataFrame, table: Table, test_user: Mask, test_question: Mask, report: Report) -> None:
    report.kept = len(rows)
    for counts, column, test in (
        (report.users, "user", test_user),
        (report.questions, "question", test_question),
    ):
        chosen = test[rows[column].unique()]
        counts["train"], counts["test"] = int((~chosen).sum()), int(chosen.sum())
    report.long = sum(any(len(texts[n]) > LONG for texts in table[1:]) for n in rows.index)


def _too_few(file: Path, report: Report) -> str:
    dropped = "; ".join(f"{count:,} {why}" for why, count in report.dropped.items() if count)
    return (
        f"{file}: {report.users['train']} train and {report.users['test']} test users remain; a task needs "
        f"at least 2 users and, with a row each, {SHOTS + 2} questions: {SHOTS + 1} to train on, 1 to test "
        f"(of {report.read:,} rows were dropped: {dropped or 'none'})"
    )


def _write(scratch: Path, rows: pd.DataFrame, table: Table, test_user: Mask, test_question: Mask) -> None:
    """The three files, in the order of the rows; a prompt as it is spelt first."""
    user_split, question_split = (np.where(m, "test", "train").tolist() for m in (test_user, test_question))
    first = rows["user"].drop_duplicates()
    users = ({"user_id": table.users[n], "split": user_split[code]} for n, code in _numbered(first))
    _write_rows(scratch / "users.jsonl", users)
    first = rows["question"].drop_duplicates()
    names = {code: f"q{n}" for n, code in enumerate(first, 1)}
    questions = (
        {"question_id": names[code], "split": question_split[code], "prompt": table.prompts[n]}
        for n, code in _numbered(first)
    )
    _write_rows(scratch / "questions.jsonl", questions)
    preferences = (
        {"user_id": table.users[n], "question_id": names[code],
         "chosen": table.chosen[n], "rejected": table.rejected[n]}
        for n, code in _numbered(rows["question"])
    )  # fmt: skip
    _write_rows(scratch / "preferences.jsonl", preferences)
    compress(scratch / "preferences.jsonl")


def _numbered(codes: pd.Series[int]) -> Iterator[tuple[int, int]]:
    """The row of the file and the code."""
    return zip(codes.index.tolist(), codes.tolist(), strict=True)


def _write_rows(file: Path, rows: Iterator[dict[str, str]]) -> None:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with file.open("w", encoding="utf-8", newline="\n") as out:
        while lines := [encode(row) + "\n" for row in islice(rows, 10_000)]:
            out.write("".join(lines))


def compress(file: Path) -> None:
    """A large file as `.gz`, without the time and name that would make equal content differ."""
    if file.stat().st_size <= GZIP_ABOVE:
        return
    with (
        file.open("rb") as source,
        file.with_name(f"{file.name}.gz").open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, 1 << 20)
    file.unlink()


def _describe(scratch: Path, name: str, options: str, license: str, report: Report) -> None:
    """`task.yaml`, and a data card to be completed by hand."""
    users, questions = (side["train"] + side["test"] for side in (report.users, report.questions))
    summary = f"Preferences of {users:,} users about {questions:,} questions."
    spec = {"version": 1, "summary": summary, "license": license, "source": name, "shots": SHOTS}
    (scratch / "task.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    figures = "\n".join(f"| {what} | {count:,} |" for what, count in report.figures())
    card = f"""# {name}

{summary} Made from `{name}` by `fspo-bench new-task` with `{options}`.

**To be written**: who the users are and whether they agreed, how they were asked, who wrote the answers,
what is personal in the texts and was removed.

**Splits.** By a hash of the user and of the question. Train users' preferences about test questions are
held out; test users show their preferences about train questions and are asked about test questions.

| figure | value |
|---|---|
{figures}

Licence: {license}
"""
    (scratch / "README.md").write_text(card, encoding="utf-8")
