"""`validate` finds a seeded leak, a contradiction and too small a task, and passes what is sound."""

from pathlib import Path

import pytest

from fspo_bench.data.sources import source_of
from fspo_bench.data.task_files import load_task
from fspo_bench.errors import UserError
from fspo_bench.packs import find_tasks, packs
from fspo_bench.validate import validate
from tests.conftest import write_rows, write_task
from tests.made import edit, levels_task, rated_task, rows_of


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    return rated_task(tmp_path / "rated")


def line_of(file: Path, **wanted: object) -> int:
    """The first line (from 1) whose row has these values."""
    return next(n for n, row in enumerate(rows_of(file), 1) if row.items() >= wanted.items())


def test_every_built_in_task_is_sound() -> None:
    built_in = find_tasks(packs()[:1])
    assert built_in
    assert {f.name for f in built_in} == {"elix_easy", "elix_hard", "prism", "reviews", "roleplay"}
    for found in built_in:
        if source_of(found.path) == "hub":
            continue  # PRISM comes with no data
        assert validate(load_task(found.path))["test users with 8 shots"] > 0


def test_a_sound_task_is_counted(made_task: Path, rated: Path) -> None:
    assert validate(load_task(made_task), 3) == {
        "users": 12, "questions": 12, "answers": 60, "preferences": 0, "test users with 3 shots": 4,
    }  # fmt: skip
    assert validate(load_task(rated), 3)["preferences"] == 4 * 4 + 4 * 8


@pytest.mark.parametrize(("other", "split"), [("q1", "test"), ("q2", "judge")])
def test_a_prompt_in_two_splits_is_a_leak(made_task: Path, other: str, split: str) -> None:
    file = made_task / "questions.jsonl"
    edit(file, line_of(file, question_id=other), prompt="what  about\nThing 0? ")  # case and space aside
    with pytest.raises(
        UserError, match=rf"leak: question '{other}' \({split}\) has the prompt of 'q0' \(train\)"
    ):
        validate(load_task(made_task), 3)


def test_an_answer_text_in_two_splits_is_a_leak(made_task: Path) -> None:
    file = made_task / "answers.jsonl"
    text = rows_of(file)[line_of(file, answer_id="q3/2") - 1]["text"]
    edit(file, line_of(file, answer_id="q4/1"), text=text.upper())
    with pytest.raises(UserError, match=r"leak: an answer to 'q4' \(test\) also answers 'q3' \(train\)"):
        validate(load_task(made_task), 3)


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_preference_text_in_two_splits_is_a_leak(rated: Path, side: str) -> None:
    file = rated / "preferences.jsonl"
    edit(file, line_of(file, user_id="u4", question_id="q7"), **{side: "no q0"})
    with pytest.raises(UserError, match=r"leak: an answer to 'q\d+' \(\w+\) also answers 'q\d+'"):
        validate(load_task(rated), 3)


def test_the_same_text_within_one_split_is_no_leak(rated: Path) -> None:
    file = rated / "preferences.jsonl"
    edit(file, line_of(file, user_id="u0", question_id="q3"), rejected="no q0")
    validate(load_task(rated), 3)


def test_a_train_users_preference_about_a_test_question_is_a_leak(rated: Path) -> None:
    file = rated / "preferences.jsonl"
    row = {"user_id": "u3", "question_id": "q4", "chosen": "yes q4 0", "rejected": "no q4"}
    write_rows(file, [*rows_of(file), row])
    with pytest.raises(UserError, match="leak: train user 'u3' has a preference about test question 'q4'"):
        validate(load_task(rated), 3)


def test_rows_that_contradict_each_other_are_found(rated: Path) -> None:
    file = rated / "preferences.jsonl"
    row = next(r for r in rows_of(file) if r["user_id"] == "u6")
    mirrored = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
    write_rows(file, [*rows_of(file), {**mirrored, "user_id": "u9"}])
    validate(load_task(rated), 3)  # another user may disagree
    write_rows(file, [*rows_of(file)[:-1], mirrored])
    with pytest.raises(UserError, match=f"user 'u6' prefers each of two answers to '{row['question_id']}'"):
        validate(load_task(rated), 3)


def test_two_answers_of_one_text_are_found(made_task: Path) -> None:
    """A user could be shown chosen == rejected, or x over y and y over x."""
    file = made_task / "answers.jsonl"
    edit(file, line_of(file, answer_id="q0/3"), text=rows_of(file)[0]["text"])
    with pytest.raises(UserError, match="q0"):
        validate(load_task(made_task), 3)


@pytest.mark.parametrize(("shots", "user"), [(4, "train"), (5, "test")])
def test_every_user_must_afford_the_shots(made_task: Path, shots: int, user: str) -> None:
    with pytest.raises(UserError, match=rf"\({user}\) has preferences about 4 questions, needs at least 5"):
        validate(load_task(made_task), shots)


@pytest.mark.parametrize(
    "split",
    ["test", "train"],
)  # fmt: skip
def test_a_split_without_users_is_named(tmp_path: Path, split: str) -> None:
    folder = write_task(tmp_path / "gap")
    file = folder / "users.jsonl"
    write_rows(file, [r for r in rows_of(file) if r["split"] != split])
    with pytest.raises(UserError, match=f"split '{split}' has 0 users and 4 questions"):
        validate(load_task(folder), 3)


def test_a_load_error_comes_through(rated: Path) -> None:
    edit(rated / "users.jsonl", 3, split="nowhere")
    with pytest.raises(UserError, match=r"users\.jsonl, line 3, field 'split'"):
        validate(load_task(rated), 3)


def test_on_a_scale_every_answer_needs_a_place(tmp_path: Path) -> None:
    folder = levels_task(tmp_path / "levels")
    assert validate(load_task(folder), 3)["test users with 3 shots"] == 5
    edit(folder / "answers.jsonl", 2, loadings={"lebel": 3})
    with pytest.raises(UserError, match="answer 'q0/2' needs a place on the scale 'level' and nothing else"):
        validate(load_task(folder), 3)


def test_prompts_are_measured_in_a_models_tokens(made_task: Path, tiny_model: Path) -> None:
    few, many = (
        validate(load_task(made_task), shots, str(tiny_model))["tokens in the longest prompt"]
        for shots in (1, 3)
    )
    assert many > few > 50
    with pytest.raises(UserError, match=r"do not fit .*, which reads 4096; use fewer shots"):
        for line in (2, 5, 8, 11):  # the test questions
            edit(made_task / "questions.jsonl", line, prompt=f"word{line} " * 1000)
        validate(load_task(made_task), 3, str(tiny_model))


def test_a_task_is_held_to_the_shots_that_it_promises(made_task: Path) -> None:
    spec = made_task / "task.yaml"
    spec.write_text(spec.read_text() + "shots: 3\n")
    assert validate(load_task(made_task))["test users with 3 shots"] == 4
    spec.write_text(spec.read_text().replace("shots: 3", "shots: 5"))
    with pytest.raises(UserError, match="needs at least 5"):
        validate(load_task(made_task))
