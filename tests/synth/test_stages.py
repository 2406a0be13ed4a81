"""A model with known biases: what the stages claim to take away, they take away."""

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.errors import Stopped
from fspo_bench.synth.files import rows_of
from fspo_bench.validate import validate
from tests.synth.scripted import WORDS, Script, Scripted, synthesis, words_of


def made(out: Path, script: Script, **changes: Any) -> dict[str, int]:
    return dict(synthesis(out, script, **changes).run() or [])


def stage(out: Path, name: str) -> list[dict[str, Any]]:
    return list(rows_of(out / ".synth" / f"{name}.jsonl"))


def entropy(out: Path, rounds: dict[str, int]) -> float:
    """Mean in nats, of the share of a pair's repeats and orders that chose a, in these rounds of users."""
    by = defaultdict(list)
    for row in stage(out, "labels"):
        if rounds.get(row["user_id"]) == row["refinement"]:
            by[row["user_id"], row["a"], row["b"]] += [row["ab"] == "a", row["ba"] == "a"]
    shares = [sum(votes) / len(votes) for votes in by.values()]
    return sum(-sum(p * math.log(p) for p in (share, 1 - share) if p) for share in shares) / len(shares)


def test_the_made_folder_is_a_sound_task(tmp_path: Path) -> None:
    figures = made(tmp_path / "out", Script())
    task = load_task(tmp_path / "out")
    counts = validate(task)
    assert counts["preferences"] == figures["preferences kept"] > 100
    assert (len(task.users_of("train")), len(task.users_of("test"))) == (9, 3)
    assert {u.group for u in task.users.values()} == {"young|town", "young|sea", "old|town", "old|sea"}
    assert task.spec.shots == 3
    lost = Counter(row["why"].partition(" (")[0] for row in stage(tmp_path / "out", "dropped"))
    assert sum(lost.values()) == sum(n for what, n in figures.items() if what.startswith("dropped"))


def test_what_is_chosen_is_what_the_description_says(tmp_path: Path) -> None:
    made(tmp_path / "out", Script(knows=len(WORDS), bias="tie"), refinement={"rounds": 0})
    task = load_task(tmp_path / "out")
    for row in task.rows:
        worth = [Script._worth(task.users[row.user_id].description, t) for t in (row.chosen, row.rejected)]
        assert worth[0] > worth[1]


def test_labels_that_hang_on_the_order_are_dropped(tmp_path: Path) -> None:
    figures = made(tmp_path / "out", Script(bias="first"), refinement={"rounds": 0})
    rows = stage(tmp_path / "out", "labels")
    flips = [row for row in rows if row["outcome"] == "flip"]
    assert len(flips) == figures["dropped (pairs): the order of the answers decides"] > 10
    assert {(row["ab"], row["ba"]) for row in flips} == {("a", "b")}
    assert figures["preferences kept"] == len(rows) - len(flips)


def test_a_model_that_takes_the_first_gives_no_task(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=r"no task: 0 users.*the order of the answers decides.*stronger model"):
        made(tmp_path / "out", Script(always="first"))
    assert not (tmp_path / "out" / "task.yaml").exists()
    assert not (tmp_path / "out" / "preferences.jsonl").exists()
    with pytest.raises(Stopped, match="no task"):
        made(tmp_path / "out", Script(always="first"))


def test_without_both_orders_the_bias_stays(tmp_path: Path) -> None:
    figures = made(tmp_path / "out", Script(bias="first"), refinement={"rounds": 0}, without=["both_orders"])
    rows = stage(tmp_path / "out", "labels")
    assert figures["preferences kept"] == len(rows)
    assert all((row["ab"] is None) != (row["ba"] is None) for row in rows)
    first = [row["ab"] == "a" if row["ab"] else row["ba"] == "b" for row in rows]
    assert sum(first) / len(first) > 0.6


def test_entropy_falls_with_refinement(tmp_path: Path) -> None:
    labels = {"questions": 12, "test_questions": 4, "repeats": 4, "temperature": 1.0}
    figures = made(
        tmp_path / "out", Script(knows=2), labels=labels, refinement={"rounds": 3, "statements": 3}
    )
    last = {row["user_id"]: row["refinement"] for row in stage(tmp_path / "out", "refinements")}
    assert len(last) > 6
    before = entropy(tmp_path / "out", dict.fromkeys(last, 0))
    after = entropy(tmp_path / "out", last)
    assert 0.2 < before < math.log(2)
    assert after < 0.5 * before
    made(tmp_path / "without", Script(knows=2), labels=labels, without=["refinement"])
    assert not stage(tmp_path / "without", "refinements")
    kept = len(load_task(tmp_path / "without").rows)
    assert figures["preferences kept"] > 1.3 * kept


def test_refinement_explains_the_choice_and_relabels_everything(tmp_path: Path) -> None:
    made(tmp_path / "out", Script(knows=2, bias="tie"))
    labels, answers = stage(tmp_path / "out", "labels"), stage(tmp_path / "out", "responses")
    texts = {row["answer_id"]: row["text"] for row in answers}
    by: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in labels:
        by[row["user_id"], row["refinement"]].append(row)
    for row in stage(tmp_path / "out", "refinements"):
        assert words_of(texts[row["chosen"]])[0] in row["statement"]
        assert row["statement"] in row["description"]
        relabelled = by[row["user_id"], row["refinement"]]
        assert len(relabelled) == len(by[row["user_id"], 0])
    task = load_task(tmp_path / "out")
    last = {row["user_id"]: row["description"] for row in stage(tmp_path / "out", "refinements")}
    assert all(task.users[user].description == text for user, text in last.items() if user in task.users)


def test_near_duplicates_are_filtered(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "answers": {"views": 6, "similarity": 0.99},
        "questions": {"similarity": 0.999},
    }
    figures = made(tmp_path / "out", Script(), **changes)
    assert figures["dropped (questions): there already"] > 2
    with pytest.raises(Stopped, match="no task"):
        made(tmp_path / "copies", Script(copies=True), **changes)
    dropped = stage(tmp_path / "copies", "dropped")
    same = [row for row in dropped if row["stage"] == "responses"]
    assert len(same) == 5 * 20
    assert len({row["question_id"] for row in stage(tmp_path / "copies", "responses")}) == 20


def test_a_taste_for_length_can_be_measured(tmp_path: Path) -> None:
    """Both orders do not take it away: it stands in the stages for the report to find."""
    made(tmp_path / "out", Script(always="longer"), answers={"similarity": 0.999})
    rows = load_task(tmp_path / "out").rows
    longer = [len(row.chosen) > len(row.rejected) for row in rows if len(row.chosen) != len(row.rejected)]
    assert sum(longer) == len(longer) > 50


@pytest.mark.parametrize("noise", [10, 40])
def test_what_cannot_be_read_is_asked_again_then_dropped_and_counted(tmp_path: Path, noise: int) -> None:
    model = Scripted(Script(noise=noise))
    labels = {"questions": 12, "test_questions": 4, "temperature": 0.7}
    run = synthesis(tmp_path / "out", model, labels=labels)
    figures = dict(run.run() or [])
    validate(load_task(tmp_path / "out"))
    clean = Scripted(Script())
    synthesis(tmp_path / "clean", clean, labels=labels).run()
    assert model.asked > 1.05 * clean.asked
    if noise == 40:
        assert figures["dropped (responses): no whole sentences of the wanted length, or a refusal"] > 0
        assert figures["dropped (pairs): no verdict could be read"] > 0


def test_an_ensemble_shares_the_answers_and_its_first_model_does_the_rest(tmp_path: Path) -> None:
    from fspo_bench.synth.crew import Model

    backends = [Scripted(key=f"openai/m{n}") for n in range(3)]
    for out, without in (("all", []), ("one", ["ensemble"])):
        run = synthesis(tmp_path / out, Script(), without=without)
        run.models = [Model(b.key, b) for b in backends]
        run.run()
        rows = stage(tmp_path / out, "responses")
        expected = {"openai/m0"} if without else {b.key for b in backends}
        assert {row["model"] for row in rows} == expected
        assert {row["model"] for row in stage(tmp_path / out, "questions")} == {"", "openai/m0"}
    assert 10 < backends[1].asked == backends[2].asked <= 21


def test_views_and_personas_steer(tmp_path: Path) -> None:
    made(
        tmp_path / "out", Script(knows=8), answers={"views": 2, "personas": 2, "plain": 1, "similarity": 1.0}
    )
    rows = stage(tmp_path / "out", "responses")
    tested = {row["description"] for row in stage(tmp_path / "out", "personas") if row["split"] == "test"}
    for row in rows:
        if row["how"] == "view":
            assert words_of(row["text"]) == words_of(row["steer"])
        assert (row["how"] == "plain") == (row["steer"] == "")
        assert row["steer"] not in tested
    made(tmp_path / "plain", Script(), answers={"similarity": 1.0}, without=["views", "steering"])
    assert {row["how"] for row in stage(tmp_path / "plain", "responses")} == {"plain"}


def test_fixed_users_are_taken_as_they_are(tmp_path: Path) -> None:
    fixed = [
        {"user_id": "a", "split": "seen", "group": "old", "description": "Loves walking. Hates reading."},
        {"user_id": "b", "split": "test", "description": "Loves reading. Hates walking."},
    ]
    changes: dict[str, Any] = {"users": {"fixed": fixed, "count": 0}, "shots": 2, "answers": {"views": 8}}
    changes["answers"]["similarity"] = 1.0
    made(tmp_path / "out", Script(bias="tie"), refinement={"rounds": 4, "statements": 3}, **changes)
    task = load_task(tmp_path / "out")
    validate(task)
    assert {u.user_id: u.split for u in task.users.values()} == {"a": "seen", "b": "test"}
    assert task.users["a"].description.startswith("Loves walking. Hates reading.")


def test_the_plan_and_what_was_used_are_kept(tmp_path: Path) -> None:
    model = Scripted()
    synthesis(tmp_path / "out", model).run()
    folder = tmp_path / "out" / ".synth"
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    assert plan["models"] == ["openai/scripted"]
    used = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("usage.*.json")]
    assert sum(u["calls"] for u in used) == model.asked
    assert (
        not list(folder.glob("calls.*"))
        and not list(folder.glob("*.part"))
        and not list(folder.glob("*.state*"))
    )
