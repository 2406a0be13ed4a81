"""Published data read from files or the Hub, and the paper's own data made into tasks without leaks."""

import gzip
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from fspo_bench.data.hub import OneSplit, hub_rows
from fspo_bench.data.tasks import Rows, Task, TaskSpec
from fspo_bench.errors import UserError
from fspo_bench.packs import builtin_root
from fspo_bench.validate import problems
from tests.conftest import write_rows

ROWS = [{"name": "ann", "n": 1, "more": "x"}, {"name": "None", "n": 2, "more": None}]


def read(folder: Path | None, *columns: str, files: tuple[str, ...] = ("rows",)) -> list[dict[str, Any]]:
    return list(hub_rows("someone/rows", "all", "train", files, columns, folder))


def hub_module(name: str) -> ModuleType:
    """A task's `hub.py`, run as a module of its own name."""
    spec = importlib.util.spec_from_file_location(f"hub_of_{name}", builtin_root() / f"tasks/{name}/hub.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up here
    spec.loader.exec_module(module)
    return module


def as_task(rows: Rows) -> Task:
    """The rows as a loaded task."""
    task = Task(
        "made", Path(), TaskSpec(version=1, summary="s", license="l"), {u.user_id: u for u in rows.users},
        {q.question_id: q for q in rows.questions}, {}, tuple(rows.preferences), "h",
    )  # fmt: skip
    assert (len(task.users), len(task.questions)) == (len(rows.users), len(rows.questions))
    return task


def serve(monkeypatch: pytest.MonkeyPatch, load_dataset: Any) -> None:
    """A `datasets` package that serves what the test gives."""
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv"])
def test_files_of_every_kind_give_the_same_rows(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        pd.DataFrame(ROWS).to_csv(file, index=False)
    else:
        write_rows(file, ROWS)
    if suffix == ".jsonl.gz":
        file.write_bytes(gzip.compress(file.read_bytes()))
    assert read(tmp_path, "name", "n", "more") == ROWS
    assert read(tmp_path, "n") == [{"n": 1}, {"n": 2}]


def test_parquet_goes_through_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"")
    monkeypatch.setattr(pd, "read_parquet", lambda file: pd.DataFrame(ROWS))
    assert read(tmp_path, "name", "n", "more") == ROWS

    def no_engine(file: Path) -> pd.DataFrame:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", no_engine)
    with pytest.raises(UserError, match=r"rows\.parquet needs the package `pyarrow`"):
        read(tmp_path, "name")


def test_the_first_name_that_is_there_is_read_and_a_star_reads_all_parts(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for n in (1, 0):
        write_rows(folder / f"train-0000{n}-of-2.jsonl", [{"n": n}])
    names = ("train", "train-*", "data/train-*")
    assert read(tmp_path, "n", files=names) == [{"n": 0}, {"n": 1}]
    write_rows(tmp_path / "train.jsonl", [{"n": 7}])
    assert read(tmp_path, "n", files=names) == [{"n": 7}]


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no rows \(\.jsonl, .*\); put the files of someone/rows there"):
        read(tmp_path, "name")


@pytest.mark.parametrize(
    ("third", "problem"),
    [
        (b'{"name": "eve"', r"line 3: not JSON \(.* at column 15\)"),
        (b'{"name": "\xff"}', r"line 3: not UTF-8 \(byte 11 of the line\)"),
        (b'["eve"]', "line 3: not a JSON object"),
        (b'{"nmae": "eve"}', "line 3: no column 'name', there are 'nmae'"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, third: bytes, problem: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"name": "ann"}\n{"name": "bob"}\n' + third + b"\n")
    with pytest.raises(UserError, match=rf"rows\.jsonl, {problem}"):
        read(tmp_path, "name")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("rows.csv", b"name,n\nann,1\nbob,2,3\n", "not CSV in UTF-8 .*line 3"),
        ("rows.csv", b"name,n\nann,1\n", "no column 'more', there are 'name', 'n'"),
        ("rows.csv", b"name,n\nann,1,2\nbob,2,3\n", "not CSV in UTF-8 .*line 2 has more cells"),
        ("rows.csv", b"name,n\n\xff,1\n", "not CSV in UTF-8"),
        ("rows.jsonl.gz", gzip.compress(b'{"name": "ann"}\n' * 99)[:-9], "not a gzip file, or cut short"),
        ("rows.jsonl.gz", b'{"name": "ann"}\n', "not a gzip file, or cut short"),
        ("rows.jsonl", b"\n", "no rows"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: {problem}"):
        read(tmp_path, "name", *(["more"] if name == "rows.csv" else []))


def test_the_hub_streams_and_never_runs_remote_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **settings: Any) -> list[dict[str, Any]]:
        asked.append((args, settings))
        return ROWS

    serve(monkeypatch, load_dataset)
    assert read(None, "name") == [{"name": "ann"}, {"name": "None"}]
    (((hub_id, config), settings),) = asked
    assert (hub_id, config) == ("someone/rows", "all")
    assert settings == {"split": "train", "streaming": True, "trust_remote_code": False}
    with pytest.raises(UserError, match="someone/rows: no column 'age', there are 'name', 'n', 'more'"):
        read(None, "name", "age")


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r"install the extra `pip install 'fspo-bench\[hub\]'`, or give --data-dir"
    ):
        read(None, "name")


def test_a_hub_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **settings: Any) -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise ConnectionError("no route\nto host")

    serve(monkeypatch, load_dataset)
    with pytest.raises(
        UserError, match=r"'train', could not be read from the Hub \(no route\): .*--data-dir"
    ):
        read(None, "name")


def test_a_text_belongs_to_the_split_that_claimed_it() -> None:
    texts = OneSplit()
    assert texts.claim("train", "One.", "Two.")
    assert texts.claim("train", "one. ", "Three.")
    assert not texts.claim("test", "ONE.", "Four.")
    assert texts.claim("test", "Four.")  # a refused claim takes nothing


# The paper's own data


def scored(user: str, prompt: str, label: Any = 0, n: str = "") -> dict[str, Any]:
    x, y = f"{prompt} x{n}", f"{prompt} y{n}"
    return {"prompt": prompt, "response_x": x, "response_y": y, "label": label, "scorer_level": user}


def played(user: str, prompt: str) -> dict[str, Any]:
    return {"x": prompt, "yw": f"{prompt} w", "yl": f"{prompt} l", "level": user,
            "score_persona": {"persona_description": f"I am {user}."}}  # fmt: skip


def load(name: str, folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Rows:
    """What a task makes of these published rows; no text is in two splits, no row against another."""
    write_rows(folder / "train.jsonl", train)
    write_rows(folder / "test.jsonl", test)
    module: ModuleType = hub_module(name)
    rows = module.load(folder, module.Options())
    assert isinstance(rows, Rows)
    assert list(problems(as_task(rows))) == []
    return rows


def splits(rows: Rows) -> tuple[dict[str, str], dict[str, str]]:
    return {u.user_id: u.split for u in rows.users}, {q.prompt: q.split for q in rows.questions}


def facts(rows: Rows) -> set[tuple[str, str, str]]:
    return {(p.user_id, p.chosen, p.rejected) for p in rows.preferences}


def test_every_row_becomes_one_preference_and_the_label_says_which_side_wins(tmp_path: Path) -> None:
    train = [scored("child", "Why is the sky blue?", 0), scored("expert", "Why is the sky blue?", 1)]
    train += [scored("child", "What is tea?", 1, n) for n in ("1", "2", "3")]
    test = [scored(user, "What is fog?", label) for user, label in (("child", 1), ("expert", 0))]
    rows = load("elix_easy", tmp_path, train, test)
    users, questions = splits(rows)
    assert users == {"child": "seen", "expert": "seen"}
    assert questions == {"Why is the sky blue?": "train", "What is tea?": "train", "What is fog?": "test"}
    assert len(rows.preferences) == 7
    assert ("child", "Why is the sky blue? x", "Why is the sky blue? y") in facts(rows)
    assert ("expert", "Why is the sky blue? y", "Why is the sky blue? x") in facts(rows)
    assert rows.note == ""
    assert [u.description for u in rows.users] == ["child", "expert"]


def test_interpolated_review_users_are_tested_and_never_trained(tmp_path: Path) -> None:
    names = ["positive", "concise", "positive+concise"]
    train = [scored(name, f"Film {n}", n % 2) for name in names for n in range(4)]
    rows = load("reviews", tmp_path, train, [scored(name, "Film 9") for name in names])
    assert splits(rows)[0] == {"positive": "seen", "concise": "seen", "positive+concise": "test"}
    task = as_task(rows)
    trained = {episode.user_id for episode in task.train_episodes(2, 1, 12, seed=0)}
    assert trained == {"positive", "concise"}
    assert {episode.user_id for episode in task.test_episodes(2, 1, 3, seed=0)} == set(names)


def test_a_prompt_of_both_published_splits_is_held_out(tmp_path: Path) -> None:
    train = [scored("child", "What is tea?"), scored("child", "what is  FOG?", 0, "2")]
    rows = load("elix_easy", tmp_path, train, [scored("child", "What is fog?")])
    assert splits(rows)[1] == {"What is tea?": "train", "What is fog?": "test"}
    assert len(rows.preferences) == 3


def test_roleplay_users_are_split_as_published_and_shots_come_from_held_out_prompts(tmp_path: Path) -> None:
    train = [played(user, f"Question {n}?") for user in ("a", "b") for n in range(3)]
    train += [played("a", f"Held out {n}?") for n in range(6)]
    test = [played("c", f"Held out {n}?") for n in range(6)]
    rows = load("roleplay", tmp_path, train, test)
    users, questions = splits(rows)
    assert users == {"a": "train", "b": "train", "c": "test"}
    held_out = [split for prompt, split in questions.items() if prompt.startswith("Held out")]
    assert sorted(held_out) == ["test"] * 3 + ["train"] * 3
    assert rows.note == (
        "half of the held-out prompts serve as shots; left out: 3 train users' rows about held-out prompts"
    )
    assert rows.users[2].description == "I am c."


def test_published_splits_that_are_the_same_still_hold_questions_out(tmp_path: Path) -> None:
    same = [scored(user, f"Topic {n}") for user in ("e1", "e2") for n in range(4)]
    rows = load("elix_hard", tmp_path, same, same)
    users, questions = splits(rows)
    assert users == {"e1": "seen", "e2": "seen"}
    assert sorted(questions.values()) == ["test", "test", "train", "train"]
    assert len(rows.preferences) == 8
    assert rows.note == "half of the held-out prompts serve as shots; left out: 8 repeated rows"


def test_what_cannot_be_a_preference_is_left_out_and_counted(tmp_path: Path) -> None:
    good = scored("child", "What is tea?")
    mirrored = {**good, "label": 1}
    equal = {**good, "response_y": good["response_x"].upper()}
    unclear = [{**good, "label": None}, {**good, "label": 2}, {**good, "response_x": ""}]
    crossing = {**scored("child", "What is milk?"), "response_x": "What is fog? y"}
    lonely = scored("expert", "What is milk?")
    train = [good, good, mirrored, equal, *unclear, crossing, lonely]
    rows = load("elix_easy", tmp_path, train, [scored("child", "What is fog?")])
    assert len(rows.preferences) == 2
    assert splits(rows) == ({"child": "seen"}, {"What is tea?": "train", "What is fog?": "test"})
    assert rows.note == (
        "left out: 1 repeated rows, 1 rows against an earlier one, 1 rows with an answer of the other split, "
        "1 rows with equal answers, 3 rows without a text or label, 1 users without questions of both splits"
    )


def test_two_files_that_allow_no_test_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no user has preferences about questions of both splits"):
        load("elix_hard", tmp_path, [scored("e1", "Topic 1")], [scored("e2", "Topic 2")])


@pytest.mark.parametrize("name", ["elix_easy", "elix_hard", "reviews", "roleplay"])
def test_the_papers_data_come_from_the_hub_without_a_folder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load_dataset(hub_id: str, config: None, *, split: str, **settings: Any) -> list[dict[str, Any]]:
        asked.append((hub_id, config, split))
        row = played if name == "roleplay" else scored
        return [row("one", f"{split} {n}") for n in range(4)] + [row(f"{split} two", f"{split} 1")]

    serve(monkeypatch, load_dataset)
    module = hub_module(name)
    rows = module.load(None, module.Options())
    assert list(problems(as_task(rows))) == []
    assert [(a[0], a[2]) for a in asked] == [(module.HUB_ID, "test"), (module.HUB_ID, "train")]
    assert {u.user_id: u.split for u in rows.users}["one"] == "seen"


def test_missing_columns_are_named(tmp_path: Path) -> None:
    row = played("a", "Question?")
    del row["yl"]
    with pytest.raises(UserError, match=r"train\.jsonl, line 1: no column 'yl', there are 'x', 'yw'"):
        load("roleplay", tmp_path, [row], [played("a", "Another?")])
