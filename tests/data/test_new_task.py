"""`new-task`: a sound file of preferences becomes a task that validates, any other a sentence."""

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fspo_bench.data import new_task as module
from fspo_bench.data.new_task import Columns, new_task
from fspo_bench.errors import UserError
from tests.data.made_preferences import (
    DATA,
    Cells,
    dropped,
    grid,
    jsonl,
    made,
    make,
    refused,
    sound,
    splits,
    write_csv,
)

# what is kept and what is dropped


def test_a_sound_file_becomes_a_task(tmp_path: Path) -> None:
    report, task = made(tmp_path, grid())
    users, questions = splits(task)
    assert set(users.values()) == set(questions.values()) == {"train", "test"}
    assert set(users) == {f"u{n}" for n in range(12)}
    tested = sum(s == "test" for s in questions.values())
    assert report.kept == 12 * 15 - report.users["train"] * tested
    assert dropped(report, "held out") == report.users["train"] * tested
    assert {n: c for n, c in report.dropped.items() if c} == {
        "of train users about test questions (held out)": dropped(report, "held out")
    }
    seen = {(r.user_id, questions[task.questions[r.question_id].prompt]) for r in task.rows}
    assert seen == {(u, s) for u in users for s in ("train", users[u])}
    assert (task.spec.license, task.spec.source, task.spec.version) == ("CC0-1.0", "given.jsonl", 1)
    assert sorted(p.name for p in report.out.iterdir()) == sorted([*DATA, "README.md", "task.yaml"])


def test_the_report_and_the_card_have_the_counts(tmp_path: Path) -> None:
    report, _ = made(tmp_path, [*grid(), ("u0", "Thing 0?", "same", "Same ")])
    lines = report.lines()
    assert lines[0] == f"wrote {tmp_path / 'out'}"
    assert "  rows read: 181" in lines and "  rows dropped: ties (both texts are the same): 1" in lines
    assert not any(line.endswith(": 0") for line in lines)
    card = (report.out / "README.md").read_text(encoding="utf-8")
    assert "| rows read | 181 |" in card and "--seed 0 --test-share 0.2" in card and "CC0-1.0" in card


@pytest.mark.parametrize("texts", [("x", "x"), ("A  b", "a b\n"), ("É", "é")])
def test_ties_are_dropped(tmp_path: Path, texts: tuple[str, str]) -> None:
    report, task = made(tmp_path, [("u0", "Thing 0?", *texts), *grid()])
    assert dropped(report, "ties") == 1 and not any(r.chosen in texts for r in task.rows)


def test_repeated_rows_are_dropped(tmp_path: Path) -> None:
    u, prompt, yes, no = grid()[0]
    report, _ = made(tmp_path, [*grid(), (u, prompt, yes, no), (u, prompt.upper(), f" {yes}", no)])
    assert dropped(report, "duplicates") == 2


def test_both_sides_of_a_contradiction_are_dropped(tmp_path: Path) -> None:
    u, prompt, yes, no = grid()[0]
    report, task = made(
        tmp_path, [*grid(), (u, prompt, no, yes), (u, prompt, no, yes), ("u1", prompt, no, yes)]
    )
    assert dropped(report, "contradictions") == 2 and dropped(report, "duplicates") == 1
    assert (u, yes, no) not in {(r.user_id, r.chosen, r.rejected) for r in task.rows}


def test_tiny_users_are_dropped(tmp_path: Path) -> None:
    few = [("few", f"Thing {n}?", f"a{n}", f"b{n}") for n in range(6)]
    report, task = made(tmp_path, [*grid(), *few], least=7)
    assert (dropped(report, "fewer than 7"), report.users["tiny"]) == (6, 1) and "few" not in task.users
    again = make(tmp_path / "given.jsonl", least=6, out="again")
    assert again.users["tiny"] == 0


def test_long_texts_are_kept_and_counted(tmp_path: Path) -> None:
    rows = [list(row) for row in grid()]
    train = splits(made(tmp_path, rows)[1])[1]
    at = [n for n, row in enumerate(rows) if train[row[1]] == "train"]
    rows[at[0]][2] = "x" * 20_001
    rows[at[1]][3] = "y" * 200_000  # longer than a csv cell may be by default
    rows[at[2]][3] = "z" * 20_000
    assert made(tmp_path, rows, out="long")[0].long == 2
    assert make(write_csv(tmp_path / "long.csv", rows), out="csv").long == 2


def test_prompts_that_differ_in_case_and_space_are_one_question(tmp_path: Path) -> None:
    rows = [(u, f" {p.upper()}\n" if u in ("u3", "u4") else p, c, r) for u, p, c, r in grid()]
    _, task = made(tmp_path, rows)
    assert sorted(q.prompt for q in task.questions.values()) == sorted({p for _, p, _, _ in grid()})


def test_a_text_of_a_train_question_leaves_the_test_questions(tmp_path: Path) -> None:
    users, questions = splits(made(tmp_path, grid())[1])
    test_user = next(u for u, s in users.items() if s == "test")
    train, test = (next(q for q, s in questions.items() if s == split) for split in ("train", "test"))
    rows = [*grid(), (test_user, train, "I don't know", "c"), (test_user, test, "d", "i DON'T  know")]
    report, task = made(tmp_path, rows, out="leak")
    assert dropped(report, "a text that a train question has too") == 1
    assert "d" not in {r.chosen for r in task.rows} and "c" in {r.rejected for r in task.rows}


def test_answers_that_all_are_yes_or_no_make_no_task(tmp_path: Path) -> None:
    rows = [(u, p, "yes", "no") for u, p, _, _ in grid()]
    refused(
        jsonl(tmp_path / "yes.jsonl", rows), "with a text that a train question has too", "at least 2 users"
    )


def test_a_test_user_who_cannot_be_tested_trains_or_goes(tmp_path: Path) -> None:
    users, questions = splits(made(tmp_path, grid())[1])
    train = [q for q, s in questions.items() if s == "train"]
    test = [q for q, s in questions.items() if s == "test"]
    moved, gone, *others = [u for u, s in users.items() if s == "test"]
    assert others and len(test) > 1
    keep = {moved: set(train[:5]), gone: {*train[:3], *test}}
    rows = [row for row in grid() if row[1] in keep.get(row[0], {row[1]})]
    report, task = made(tmp_path, rows, out="moved", least=1)
    assert task.users[moved].split == "train" and gone not in task.users
    assert (report.moved, report.users["short"]) == (1, 1)
    assert dropped(report, "shots and a query") == 3 + len(test)


def test_a_train_user_needs_a_question_beside_the_shots(tmp_path: Path) -> None:
    """Ten rows about one question are ten shots, and no query; with few others they hide these."""
    train = [q for q, s in splits(made(tmp_path, grid())[1])[1].items() if s == "train"]
    ten = [train[0]] * 10
    for name, about in (("one", ten), ("three more", ten + train[1:4]), ("four more", ten + train[1:5])):
        rows = [(name, q, f"{q} {n}", f"no {q} {n}") for n, q in enumerate(about)]
        report, task = made(tmp_path, [*grid(), *rows], out=name)
        assert (name in task.users, report.users["short"]) == (name == "four more", int(name != "four more"))


def test_a_test_user_may_show_rows_about_one_question(tmp_path: Path) -> None:
    users, questions = splits(made(tmp_path, grid())[1])
    user = next(u for u, s in users.items() if s == "test")
    train, test = (next(q for q, s in questions.items() if s == split) for split in ("train", "test"))
    about = [train, train, train, train, test]
    rows = [row for row in grid() if row[0] != user]
    _, task = made(tmp_path, [*rows, *((user, q, f"{q} {n}", "-") for n, q in enumerate(about))], out="one")
    assert user not in task.users  # "-" is a text of both
    rows += [(user, q, f"{q} {n}", f"- {q}") for n, q in enumerate(about)]
    assert made(tmp_path, rows, out="two")[1].users[user].split == "test"


@pytest.mark.parametrize(("users", "questions"), [(1, 20), (9, 4), (2, 5)])
def test_too_few_are_refused_with_what_is_needed(tmp_path: Path, users: int, questions: int) -> None:
    refused(
        jsonl(tmp_path / "few.jsonl", grid(users, questions)),
        "at least 2 users and, with a row each, 6 questions",
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_task_is_made_whatever_the_seed(tmp_path: Path, seed: int) -> None:
    report, _ = made(tmp_path, grid(2, 6), seed=seed, share=0.001)
    assert (report.users["train"], report.users["test"]) == (1, 1)
    assert (report.questions["train"], report.questions["test"]) == (5, 1)


@pytest.mark.parametrize("seed", range(8))
def test_chance_leaves_no_side_without_users(tmp_path: Path, seed: int) -> None:
    report, _ = made(tmp_path, grid(2, 40), seed=seed, share=0.5)
    assert (report.users["train"], report.users["test"]) == (1, 1)


# splits and bytes


def test_the_same_file_and_seed_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GZIP_ABOVE", 1000)
    file = jsonl(tmp_path / "given.jsonl", grid())
    one, two, other = make(file, out="one"), make(file, out="two"), make(file, seed=1, out="other")
    names = sorted(p.name for p in one.out.iterdir())
    assert names == sorted(p.name for p in two.out.iterdir()) and "preferences.jsonl.gz" in names
    assert all((one.out / n).read_bytes() == (two.out / n).read_bytes() for n in names)
    assert (one.out / "preferences.jsonl.gz").read_bytes()[3:8] == bytes(5)  # neither name nor time
    assert splits(sound(one)) != splits(sound(other))


def test_splits_do_not_hang_on_the_order_or_number_of_rows(tmp_path: Path) -> None:
    rows = grid()
    users, questions = splits(made(tmp_path, rows)[1])
    random.Random(0).shuffle(rows)
    assert splits(made(tmp_path, rows, out="shuffled")[1]) == (users, questions)
    more_users, more_questions = splits(made(tmp_path, grid(30, 40), out="more")[1])
    assert users.items() <= more_users.items() and questions.items() <= more_questions.items()


def test_the_share_is_that_of_users_and_questions(tmp_path: Path) -> None:
    report, _ = made(tmp_path, grid(60, 60), share=0.5)
    assert all(
        18 <= side[split] <= 42 for side in (report.users, report.questions) for split in ("train", "test")
    )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"share": 0.0}, "--test-share"),
        ({"share": 1.0}, "--test-share"),
        ({"share": float("nan")}, "--test-share"),
        ({"least": 0}, "--min-preferences"),
        ({"columns": Columns(chosen="prompt")}, "'prompt' is named twice"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], part: str) -> None:
    refused(jsonl(tmp_path / "a.jsonl", grid()), part, **options)


def test_a_licence_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--license: empty"):
        new_task(jsonl(tmp_path / "a.jsonl", grid()), tmp_path / "out", Columns(), 0.2, 5, 0, " ")


def test_only_an_empty_folder_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = jsonl(tmp_path / "a.jsonl", grid())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("!")
    refused(file, "exists and is not an empty folder", out="full")
    refused(file, "exists and is not an empty folder", out="a.jsonl")
    assert (tmp_path / "full" / "mine").read_text() == "!"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    refused(file, "exists and is not an empty folder", out="empty")  # a shell would be left in a lost folder
    monkeypatch.chdir(tmp_path)
    sound(make(file, out="empty"))
    sound(make(file, out="some/where/deep"))


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = jsonl(tmp_path / "a.jsonl", grid())
    refused(file, "cannot write", out="a.jsonl/out")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_describe", full)
    refused(file, "cannot write", "No space left on device")


def test_a_folder_that_fills_up_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = jsonl(tmp_path / "a.jsonl", grid()), tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(module, "_describe", lambda *_: (out / "mine").write_text("!"))
    refused(file, "cannot write")
    assert [p.name for p in out.iterdir()] == ["mine"]


# whatever comes

WORDS = st.sampled_from(["yes", "Yes ", "no", "perhaps", "per\nhaps", "a\x00", "a\x00b"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(str.strip)
ODD = st.tuples(
    st.sampled_from(["u0", "u1", "u2", "U0", "七"]) | TEXT | st.integers(),
    st.sampled_from(["Thing 0?", " thing  0?", "THING 1?", "Thing 2?"]) | TEXT,
    WORDS | TEXT,
    WORDS | TEXT,
)


@st.composite
def preferences(draw: st.DrawFn) -> list[Cells]:
    """A grid with gaps, shared answers, repeats and contradictions here and there, and odd rows between."""
    rows: list[Cells] = []
    whole = grid(draw(st.integers(2, 9)), draw(st.integers(6, 18))) if draw(st.integers(0, 9)) else []
    rng = draw(st.randoms(use_true_random=False))
    untidy = draw(st.sampled_from([0, 0.05, 0.3]))
    for u, prompt, yes, no in whole:
        shared = rng.choice(["I see", "i  SEE", "Hm"])
        as_it_is, mirrored = (u, prompt, yes, no), (u, prompt.lower(), no.upper(), yes)
        others = [[], [as_it_is, as_it_is], [as_it_is, mirrored], [(u, prompt, shared, no)]]
        rows += rng.choice(others) if rng.random() < untidy else [as_it_is]
    rows += draw(st.lists(ODD, max_size=15))
    rng.shuffle(rows)
    return rows


@settings(max_examples=120, deadline=None)
@given(
    rows=preferences(),
    share=st.floats(0.05, 0.4) | st.floats(0.05, 0.95),
    least=st.integers(1, 8),
    seed=st.integers(-3, 3),
    as_csv=st.booleans(),
)
def test_whatever_comes_in_a_sound_task_or_nothing_comes_out(
    rows: list[Cells], share: float, least: int, seed: int, as_csv: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("given.csv" if as_csv else "given.jsonl")
        (write_csv if as_csv else jsonl)(file, rows)
        try:
            report = make(file, share, least, seed)
        except UserError:
            assert list(Path(folder).iterdir()) == [file]
        else:
            assert report.read == len(rows)
            sound(report)
