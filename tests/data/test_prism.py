"""PRISM from files of its schema, made here: what is a preference, what is left out, who goes where."""

import gzip
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from fspo_bench.data.tasks import Rows, TaskSpec
from fspo_bench.errors import UserError
from fspo_bench.validate import problems
from tests.conftest import write_rows
from tests.data.test_hub import as_task, hub_module, serve

prism = hub_module("prism")
SURVEY: dict[str, Any] = dict.fromkeys(prism.SURVEY)
Made = dict[str, list[dict[str, Any]]]


def said(
    talk: str, text: str, score: Any, chosen: bool | None, turn: int = 0, asked: str = ""
) -> dict[str, Any]:
    prompt = asked or (f"Opening of {talk}?" if turn == 0 else f"Turn {turn} of {talk}?")
    return {"utterance_id": "ut", "conversation_id": talk, "turn": turn, "user_prompt": prompt,
            "model_response": text, "score": score, "if_chosen": chosen}  # fmt: skip


def made(people: int = 10, talks: int = 4) -> Made:
    """Everyone holds as many conversations; the best of three answers is chosen, the last is near to it."""
    files: Made = {"survey": [], "conversations": [], "utterances": []}
    for p in range(people):
        files["survey"].append({**SURVEY, "user_id": f"user{p}"})
        for t in range(talks):
            name = f"c{p}-{t}"
            opening = f"Opening of {name}?"
            files["conversations"].append(
                {"user_id": f"user{p}", "conversation_id": name, "opening_prompt": opening}
            )
            files["utterances"] += [
                said(name, f"{name} good", 90, True),
                said(name, f"{name} bad", 40, False),
                said(name, f"{name} near", 85, False),
            ]
    return files


def write(folder: Path, files: Made) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def load(folder: Path, **options: Any) -> Rows:
    """The rows, which hold no leak and no contradiction."""
    rows = prism.load(folder, prism.Options(**{"min_shots": 1, **options}))
    assert isinstance(rows, Rows)
    assert list(problems(as_task(rows))) == []
    return rows


def split_of(rows: Rows, question_id: str) -> str:
    return next(q.split for q in rows.questions if q.question_id == question_id)


def about(rows: Rows, talk: str) -> list[tuple[str, str]]:
    return [(p.chosen, p.rejected) for p in rows.preferences if p.question_id == talk]


def of_first(tmp_path: Path, *answers: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    """The pairs of conversation c0-0 when these are its answers."""
    files = made(talks=5)
    others = [row for row in files["utterances"] if row["conversation_id"] != "c0-0"]
    files["utterances"] = [*answers, *others]
    return about(load(write(tmp_path, files), min_conversations=4, **options), "c0-0")


def test_people_and_conversations_are_split(tmp_path: Path) -> None:
    rows = load(write(tmp_path, made(10, 5)))
    assert Counter(u.split for u in rows.users) == {"train": 8, "test": 2}
    split_of = {q.question_id: q.split for q in rows.questions}
    for user in rows.users:
        places = Counter(split_of[p.question_id] for p in rows.preferences if p.user_id == user.user_id)
        assert places == ({"train": 3, "test": 2} if user.split == "test" else {"train": 5})
    assert len(rows.preferences) == len(rows.questions) == 50
    assert all(q.group == q.question_id for q in rows.questions)
    task = as_task(rows)
    assert len(task.test_episodes(3, 2, 10, seed=0)) == 2
    assert load(tmp_path) == rows
    assert load(tmp_path, seed=1).users != rows.users


@pytest.mark.parametrize("inside", ["", "data"])
@pytest.mark.parametrize("packed", [False, True])
def test_official_files_are_found_and_read_by_name(tmp_path: Path, inside: str, packed: bool) -> None:
    expected = load(write(tmp_path / "plain", made()))
    files = {
        name: [dict(reversed({**row, "unknown": 1}.items())) for row in rows] for name, rows in made().items()
    }
    folder = write(tmp_path / "other" / inside, files)
    if packed:
        for file in list(folder.glob("*.jsonl")):
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    assert load(tmp_path / "other") == expected


def test_the_chosen_answer_stands_against_each_that_is_worse_by_the_gap(tmp_path: Path) -> None:
    answers = [
        said("c0-0", "best", 90, True), said("c0-0", "far", 80, False), said("c0-0", "near", 81, False),
        said("c0-0", "better", 95, False), said("c0-0", "level", 90, False),
    ]  # fmt: skip
    assert of_first(tmp_path, *answers) == [("best", "far")]
    assert of_first(tmp_path, *answers, gap=9) == [("best", "far"), ("best", "near")]
    assert of_first(tmp_path, *answers, gap=0) == [("best", "far"), ("best", "near"), ("best", "level")]


def test_of_two_marks_the_better_score_is_chosen_and_neither_is_rejected(tmp_path: Path) -> None:
    answers = [said("c0-0", "a", 50, True), said("c0-0", "b", 90, True), said("c0-0", "c", 20, False)]
    assert of_first(tmp_path, *answers) == [("b", "c")]


@pytest.mark.parametrize(
    "dropped",
    [
        said("c0-0", "unrated", None, False), said("c0-0", "unmarked", 1, None),
        said("c0-0", "EMPTY STRING", 1, False), said("c0-0", "", 1, False), said("c0-0", None, 1, False),
        said("c0-0", " GOOD", 1, False), said("c0-0", "bad", 3, False),
        said("c0-0", "EMPTY STRING", 100, True),
        said("c0-0", "unrated choice", None, True), said("c99", "of an unknown conversation", 1, False),
    ],
)  # fmt: skip
def test_what_cannot_be_a_preference_is_dropped(tmp_path: Path, dropped: dict[str, Any]) -> None:
    sound = [said("c0-0", "good", 90, True), said("c0-0", "bad", 10, False)]
    assert of_first(tmp_path, *sound, dropped) == [("good", "bad")]


def test_a_turn_without_a_choice_gives_nothing(tmp_path: Path) -> None:
    assert of_first(tmp_path, said("c0-0", "a", 90, False), said("c0-0", "b", 10, False)) == []


def test_people_with_few_conversations_are_left_out(tmp_path: Path) -> None:
    files = made()
    for row in files["utterances"]:
        if row["conversation_id"] in ("c3-0", "c4-0"):
            row["score"] = 50  # no gap: the conversation holds no preference
    write(tmp_path, files)
    assert {u.user_id for u in load(tmp_path).users} == {f"user{n}" for n in range(10)} - {"user3", "user4"}
    assert len(load(tmp_path, min_conversations=3).users) == 10


def test_test_people_without_enough_shots_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, made())
    many = load(tmp_path, min_shots=1)
    most = max(
        sum(p.user_id == u.user_id and split_of(many, p.question_id) == "train" for p in many.preferences)
        for u in many.users if u.split == "test"
    )  # fmt: skip
    with pytest.raises(UserError, match="too few"):
        load(tmp_path, min_shots=most + 1)


def test_the_description_says_what_the_survey_says_and_no_more(tmp_path: Path) -> None:
    files = made()
    files["survey"][0] |= {
        "age": "25-34 years old", "gender": "Prefer not to say", "education": "Vocational",
        "religion": {"self_described": "x", "simplified": "No Affiliation"},
        "ethnicity": {"simplified": None},
        "location": {"birth_country": "Peru", "reside_country": "Chile"},
        "self_description": "I like\nrivers.", "system_string": "Be brief.",
    }  # fmt: skip
    del files["survey"][1]
    of = {u.user_id: u.description for u in load(write(tmp_path, files)).users}
    assert of["user0"] == (
        "Is 25-34 years old. Education: Vocational. Religion: No Affiliation. Born in Peru. Lives in Chile. "
        "Says of themselves: I like rivers. Wants a language model to be like this: Be brief."
    )
    assert of["user1"] == of["user2"] == ""  # not in the survey; in it without a word


# Prompts and answers that stand in several places


def reopened(files: Made, opening: str, *talks: str) -> Made:
    for row in files["conversations"]:
        if row["conversation_id"] in talks:
            row["opening_prompt"] = opening
    return files


def test_a_question_and_its_askers_stay_in_one_split(tmp_path: Path) -> None:
    everyone = [f"c{p}-{t}" for p in range(10) for t in (0, 1)]
    files = reopened(made(10, 8), " HELLO  there", *everyone[::2])
    rows = load(write(tmp_path, reopened(files, "Hello there", *everyone[1::2])))
    hello = [q for q in rows.questions if "hello" in q.prompt.lower()]
    assert len(hello) == 1
    split_of = {u.user_id: u.split for u in rows.users}
    askers = [p.user_id for p in rows.preferences if p.question_id == hello[0].question_id]
    assert len(askers) == len(set(askers)) > 1  # once a person, and shared within the split
    if hello[0].split == "test":
        assert {split_of[asker] for asker in askers} == {"test"}


def test_an_answer_stays_in_one_split(tmp_path: Path) -> None:
    files = made(10, 8)
    for row in files["utterances"]:
        if row["model_response"].endswith(("-0 bad", "-1 bad", "-2 bad")):
            row["model_response"] = "I cannot answer that."
    rows = load(write(tmp_path, files))
    split_of = {q.question_id: q.split for q in rows.questions}
    same = {split_of[p.question_id] for p in rows.preferences if p.rejected.startswith("I cannot")}
    assert len(same) == 1
    assert len(rows.preferences) < 80


def test_a_person_whom_this_leaves_too_little_is_left_out(tmp_path: Path) -> None:
    files = made(10, 4)
    for row in files["utterances"]:
        row["model_response"] = row["model_response"].replace("c1-0 ", "c2-0 ").replace("c0-0 ", "c2-0 ")
    for seed in range(6):
        rows = load(write(tmp_path, files), seed=seed)
        counts = Counter(p.user_id for p in rows.preferences)
        assert set(counts.values()) == {4} and set(counts) == {u.user_id for u in rows.users}


# Later turns


def longer(*texts: str) -> Made:
    """Each conversation goes on for two turns; conversation c0-0 with these chosen answers."""
    files = made()
    for talk in [row["conversation_id"] for row in files["conversations"]]:
        for turn in (1, 2):
            files["utterances"] += [
                said(talk, f"{talk} good {turn}", 80, True, turn),
                said(talk, f"{talk} bad {turn}", 20, False, turn),
            ]
    for turn, text in enumerate(texts):
        for row in files["utterances"]:
            if (row["conversation_id"], row["turn"], row["if_chosen"]) == ("c0-0", turn, True):
                row["model_response"] = text
    return files


def asked_in(rows: Rows, talk: str) -> dict[str, str]:
    return {q.question_id: q.prompt for q in rows.questions if q.group == talk}


def test_later_turns_come_with_their_history(tmp_path: Path) -> None:
    folder = write(tmp_path, longer())
    rows = load(folder, turns="all")
    assert asked_in(rows, "c0-0") == {
        "c0-0": "Opening of c0-0?",
        "c0-0/1": "User: Opening of c0-0?\nAssistant: c0-0 good\nTurn 1 of c0-0?",
        "c0-0/2": "User: Opening of c0-0?\nAssistant: c0-0 good\nUser: Turn 1 of c0-0?\n"
                  "Assistant: c0-0 good 1\nTurn 2 of c0-0?",
    }  # fmt: skip
    assert about(rows, "c0-0/2") == [("c0-0 good 2", "c0-0 bad 2")]
    split_of = defaultdict(set)
    for question in rows.questions:
        split_of[question.group].add(question.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert asked_in(load(folder), "c0-0") == {"c0-0": "Opening of c0-0?"}


def test_a_long_history_is_cut_at_a_line_start(tmp_path: Path) -> None:
    whole = "User: Turn 1 of c0-0?\nAssistant: \nTurn 2 of c0-0?"
    fits = 1500 - len(whole) + len("Turn 2 of c0-0?")
    for length, start in [(fits, "User: Turn 1"), (fits + 1, "Assistant: yy"), (1600, "Turn 2 of c0-0?")]:
        rows = load(write(tmp_path, longer("x" * 99, "y" * length)), turns="all")
        assert asked_in(rows, "c0-0")["c0-0/2"].startswith(start)


def test_turns_behind_an_unknown_answer_are_left_out(tmp_path: Path) -> None:
    rows = load(write(tmp_path, longer("c0-0 good", "EMPTY STRING")), turns="all")
    assert list(asked_in(rows, "c0-0")) == ["c0-0"]


@pytest.mark.parametrize("seed", range(4))
def test_conversations_that_open_alike_are_one_group_in_one_split(tmp_path: Path, seed: int) -> None:
    files = reopened(longer(), "Hello", *[f"c{p}-0" for p in range(10)])
    rows = load(write(tmp_path, files), turns="all", min_conversations=2, seed=seed)
    hello = next(q for q in rows.questions if q.prompt == "Hello")
    group = [q for q in rows.questions if q.group == hello.group]
    assert len({q.question_id.split("/")[0] for q in group}) > 1
    assert {q.split for q in group} == {hello.split}
    assert all(q.group == q.question_id.split("/")[0] for q in rows.questions if q not in group)


def test_later_turns_that_read_alike_are_no_common_question(tmp_path: Path) -> None:
    """Behind answers too long for the history only the person's words are left."""
    files = longer()
    for row in files["utterances"]:
        if row["turn"] == 0 and row["if_chosen"]:
            row["model_response"] += "x" * 1600
        if row["turn"] == 1:
            row["user_prompt"] = "And then?"
    rows = load(write(tmp_path, files), turns="all")
    (question,) = [q for q in rows.questions if q.prompt == "And then?"]
    assert len(about(rows, question.question_id)) == 1


# Parts, the note, and errors


def pair(user: str, talk: str, chosen: str, rejected: str, **changes: Any) -> dict[str, Any]:
    row = {"user_id": user, "conversation_id": talk, "turn": 0, "user_prompt": f"Opening of {talk}?",
           "chosen": chosen, "rejected": rejected, "min_score_margin": 10}  # fmt: skip
    return {**row, **changes}


def part(people: int = 10, talks: int = 4) -> Made:
    pairs = [
        pair(f"user{p}", f"c{p}-{t}", f"c{p}-{t} good", f"c{p}-{t} bad")
        for p in range(people) for t in range(talks)
    ]  # fmt: skip
    return {"survey": made(people)["survey"], "pairs": pairs}


def test_a_part_without_scores_is_read_from_its_pairs(tmp_path: Path) -> None:
    expected = load(write(tmp_path / "whole", made()))
    rows = load(write(tmp_path / "part", part()))
    assert rows == expected
    unscored = made()
    for row in unscored["utterances"]:
        row["score"] = None
    assert load(write(tmp_path / "both", {**unscored, **part()})) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"chosen": "c0-0 bad", "rejected": "c0-0 good"}, {"turn": 1}, {"min_score_margin": 9},
        {"min_score_margin": None}, {"rejected": "EMPTY STRING"}, {"rejected": " c0-0 GOOD"},
        {"chosen": None}, {"user_prompt": None}, {},
    ],
)  # fmt: skip
def test_what_a_part_cannot_use_is_dropped(tmp_path: Path, changes: dict[str, Any]) -> None:
    files = part()
    files["pairs"].append(
        pair("user0", "c0-0", "c0-0 good", "c0-0 other" if changes else "c0-0 bad") | changes
    )
    assert load(write(tmp_path, files)) == load(write(tmp_path / "without", part()))


def test_a_part_has_no_later_turns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pairs\.jsonl has opening turns only; leave turns=all out"):
        load(write(tmp_path, part()), turns="all")


def test_a_part_is_announced_and_so_are_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, made(12))
    assert load(folder).note == "partial PRISM, 12 users; min_shots=1"
    assert load(folder, gap=3, turns="all").note == "partial PRISM, 12 users; turns=all, gap=3, min_shots=1"
    monkeypatch.setattr(prism, "OFFICIAL", (12, 48, 144))
    assert load(folder).note == "min_shots=1"
    assert load(folder, min_conversations=3, seed=5).note == "min_conversations=3, min_shots=1, seed=5"
    monkeypatch.setattr(prism, "OFFICIAL", (12, 48, 145))
    assert load(folder).note == "partial PRISM, 12 users; min_shots=1"


def test_the_release_is_known_by_its_counts() -> None:
    assert prism.OFFICIAL == (1500, 8011, 68371)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"turns": "last"}, "turns is 'last', must be 'first' or 'all'"),
        ({"gap": -1}, "gap is -1, must be from 0 to 99"),
        ({"gap": 100}, "gap is 100, must be from 0 to 99"),
        ({"min_conversations": 1}, "min_conversations is 1, must be at least 2"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        prism.Options(**wrong)


@pytest.mark.parametrize(("name", "column"), [("survey", "age"), ("conversations", "opening_prompt"),
                                              ("utterances", "score")])  # fmt: skip
def test_a_missing_column_is_named(tmp_path: Path, name: str, column: str) -> None:
    files = made()
    del files[name][0][column]
    with pytest.raises(UserError, match=rf"{name}\.jsonl, line 1: no column '{column}', there are 'u"):
        load(write(tmp_path, files))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, made()) / "utterances.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], lines[2][:-1], *lines[3:]]))
    with pytest.raises(UserError, match=r"utterances\.jsonl, line 3: not JSON"):
        load(tmp_path)


@pytest.mark.parametrize("key", ["score", "turn"])
def test_a_score_or_turn_that_is_no_number_is_named(tmp_path: Path, key: str) -> None:
    files = made()
    files["utterances"][0][key] = "high"
    with pytest.raises(UserError, match=f"conversation 'c0-0' has the {key} 'high', which is no number"):
        load(write(tmp_path, files))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    files = made()
    del files["conversations"]
    with pytest.raises(UserError, match=r"has no conversations .* put the files of HannahRoseKirk/prism"):
        load(write(tmp_path, files))


@pytest.mark.parametrize("people", [1, 10])
def test_too_few_people_are_refused(tmp_path: Path, people: int) -> None:
    with pytest.raises(UserError, match="too few to train and test; give more data or set min_conv"):
        load(write(tmp_path, made(people, 3 if people > 1 else 9)))


def test_without_a_folder_it_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, asked = made(), []

    def load_dataset(hub_id: str, config: str, *, split: str, **settings: Any) -> list[dict[str, Any]]:
        asked.append((hub_id, config, split))
        return files[config]

    serve(monkeypatch, load_dataset)
    assert prism.load(None, prism.Options(min_shots=1)) == load(write(tmp_path, files))
    assert asked == [(prism.HUB_ID, name, "train") for name in files]


def test_the_task_file_is_sound_and_ships_no_data() -> None:
    folder = Path(prism.__file__).parent
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == [
        "README.md", "hub.py", "task.yaml"
    ]  # fmt: skip
    spec = TaskSpec(**yaml.safe_load((folder / "task.yaml").read_text(encoding="utf-8")))
    assert "not shipped" in spec.license
    assert spec.max_new_tokens == 96
