"""The offline judge: learns planted traits from judge-only data, never sees names, is measured unseen."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import fspo_bench.evaluate.judge as judge_module
from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.judge import FILE, Judge, card, fit, judge_key, key_of, open_judge
from fspo_bench.packs import builtin_root
from fspo_bench.store import Store
from tests.conftest import write_task

Text = tuple[str, str]


def _letters(texts: list[Text]) -> list[tuple[Text, np.ndarray]]:
    """Features that carry the made task's traits: which words an answer holds, and its length."""
    words = ["walk", "swim", "read", "cook", "Hm"]
    return [
        (t, np.array([*(t[1].split()[0] == w for w in words), len(t[1].split())], dtype=np.float32))
        for t in texts
    ]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """Stands in for the 135M reader; the list grows by every text that was read."""
    read: list[Text] = []

    def stand_in(texts: list[Text]) -> list[tuple[Text, np.ndarray]]:
        read.extend(texts)
        return _letters(list(dict.fromkeys(texts)))

    monkeypatch.setattr(judge_module, "_read", stand_in)
    return read


@pytest.fixture
def judge(tmp_path: Path, reads: list[Text]) -> Judge:
    folder = write_task(tmp_path / "larger", questions=90)
    return open_judge(load_task(folder), Store(tmp_path / "store"))


def test_it_learns_the_planted_traits(judge: Judge) -> None:
    """On users, questions and texts it never saw; the dummies stand where they should."""
    measured = card(judge)
    assert measured.views.value > 90
    assert measured.with_weak.value > 90
    assert measured.views.low <= measured.views.value <= measured.views.high
    assert abs(measured.longest.value - 50) < 50


def test_it_learns_from_judge_only_questions(made_task: Path, tmp_path: Path, reads: list[Text]) -> None:
    task = load_task(made_task)
    open_judge(task, Store(tmp_path / "store"))
    asked = {task_question.prompt for task_question in task.questions_of("judge")}
    assert {question for question, _ in reads} <= asked


def test_both_orders_agree_and_equal_texts_are_even(judge: Judge) -> None:
    task = judge.task
    user, question = task.users_of("test")[0], task.questions_of("test")[0]
    a, b, *_ = (answer.text for answer in task.answers_to[question.question_id])
    ab, ba, aa = judge.verdicts([(user.user_id, question.prompt, x, y) for x, y in ((a, b), (b, a), (a, a))])
    assert ab == pytest.approx(1 - ba)
    assert aa == 0.5
    assert abs(ab - 0.5) > 0.1


def test_an_empty_answer_loses_to_any_text(judge: Judge) -> None:
    user, question = judge.task.users_of("test")[0], judge.task.questions_of("test")[0]
    rows = [(user.user_id, question.prompt, a, b) for a, b in (("", "Hm."), ("Hm.", ""), ("", ""))]
    assert judge.verdicts(rows) == [0.0, 1.0, 0.5]


def test_opposite_users_get_opposite_verdicts(judge: Judge) -> None:
    """The same two texts; only the user's traits differ."""
    task = judge.task
    user = task.users_of("test")[0]
    flipped = user.model_copy(
        update={"user_id": "opposite", "traits": {t: -x for t, x in user.traits.items()}}
    )
    judge = dataclasses.replace(judge, task=_with_user(task, flipped))
    question = task.questions_of("test")[0]
    a, _, _, b, _ = (answer.text for answer in task.answers_to[question.question_id])
    own, opposite = judge.verdicts([(u, question.prompt, a, b) for u in (user.user_id, "opposite")])
    assert (own - 0.5) * (opposite - 0.5) < -0.01


def _with_user(task: Task, user: object) -> Task:
    return dataclasses.replace(task, users={**task.users, "opposite": user})  # type: ignore[dict-item]


def test_each_text_is_read_once(judge: Judge, reads: list[Text]) -> None:
    card(judge)
    n = len(reads)
    card(judge)
    assert len(reads) == n


def test_the_key_follows_what_it_learns_from_only(made_task: Path, tmp_path: Path, reads: list[Text]) -> None:
    before = open_judge(load_task(made_task), Store(tmp_path / "a")).key
    answers = made_task / "answers.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    for_test = [r for r in rows if r["question_id"] == "q1"]  # q1 is a test question, q2 a judge one
    for_test[0]["text"] += " Quite."
    answers.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert open_judge(load_task(made_task), Store(tmp_path / "a")).key == before
    next(r for r in rows if r["question_id"] == "q2")["text"] += " Quite."
    answers.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert open_judge(load_task(made_task), Store(tmp_path / "a")).key != before


def test_a_shipped_judge_is_used_only_for_its_own_texts(
    made_task: Path, tmp_path: Path, reads: list[Text], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, store = load_task(made_task), Store(tmp_path / "store")
    fit(task, made_task / FILE, open_judge(task, Store(tmp_path / "other")).key)
    monkeypatch.setattr(judge_module, "fit", lambda *_: pytest.fail("fitted although shipped"))
    open_judge(task, store)
    monkeypatch.undo()
    stale = made_task / FILE
    from safetensors.numpy import load_file, save_file

    save_file(load_file(stale), stale, {"key": "of other texts"})
    monkeypatch.setattr(judge_module, "_read", _letters)
    assert not store.has_folder(open_judge(task, Store(tmp_path / "third")).key)
    assert Store(tmp_path / "third").has_folder(open_judge(task, Store(tmp_path / "third")).key)


def test_the_shipped_roleplay_judge_belongs_to_the_shipped_texts() -> None:
    folder = builtin_root() / "tasks" / "roleplay"
    assert key_of(folder / FILE) == judge_key(load_task(folder)), "refit it: make judge"
