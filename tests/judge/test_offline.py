"""The offline judge: learns planted traits from judge-only data, never sees names, is measured unseen."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import fspo_bench.judge.offline as judge_module
from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Task
from fspo_bench.judge.card import measure_judge
from fspo_bench.judge.offline import FILE, OfflineJudge, fit, judge_key, key_of, open_offline
from fspo_bench.judge.verdicts import Comparison
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

    monkeypatch.setattr(judge_module, "_read_states", stand_in)
    return read


@pytest.fixture
def judge(tmp_path: Path, reads: list[Text]) -> OfflineJudge:
    folder = write_task(tmp_path / "larger", questions=90)
    return open_offline(load_task(folder), Store(tmp_path / "store"))


def test_it_learns_the_planted_traits(judge: OfflineJudge) -> None:
    """On users, questions and texts it never saw; the dummies stand where they should."""
    measured = measure_judge(judge, judge.task)
    assert measured.views.rate > 0.9
    assert measured.with_weak.rate > 0.9
    assert 0 < measured.longest.rate < 1
    assert 0 < measured.first.rate < 1
    assert not measured.says_first.total.sum(), "it reads one answer at a time"


def test_it_learns_from_judge_only_questions(made_task: Path, tmp_path: Path, reads: list[Text]) -> None:
    task = load_task(made_task)
    open_offline(task, Store(tmp_path / "store"))
    asked = {task_question.prompt for task_question in task.questions_of("judge")}
    assert {question for question, _ in reads} <= asked


def test_both_orders_agree_and_equal_texts_are_even(judge: OfflineJudge) -> None:
    task = judge.task
    user, question = task.users_of("test")[0], task.questions_of("test")[0]
    a, b, *_ = (answer.text for answer in task.answers_to[question.question_id])
    rows = [Comparison(user.user_id, question.prompt, x, y) for x, y in ((a, b), (b, a), (a, a))]
    ab, ba, aa = (v.p or 0 for v in judge.verdicts(rows))
    assert ab == pytest.approx(1 - ba)
    assert aa == 0.5
    assert abs(ab - 0.5) > 0.1


def test_an_empty_answer_loses_to_any_text(judge: OfflineJudge) -> None:
    user, question = judge.task.users_of("test")[0], judge.task.questions_of("test")[0]
    rows = [Comparison(user.user_id, question.prompt, a, b) for a, b in (("", "Hm."), ("Hm.", ""), ("", ""))]
    assert [v.p for v in judge.verdicts(rows)] == [0.0, 1.0, 0.5]


def test_opposite_users_get_opposite_verdicts(judge: OfflineJudge) -> None:
    """The same two texts; only the user's traits differ."""
    task = judge.task
    user = task.users_of("test")[0]
    flipped = user.model_copy(
        update={"user_id": "opposite", "traits": {t: -x for t, x in user.traits.items()}}
    )
    judge = dataclasses.replace(judge, task=_with_user(task, flipped))
    question = task.questions_of("test")[0]
    a, _, _, b, _ = (answer.text for answer in task.answers_to[question.question_id])
    rows = [Comparison(u, question.prompt, a, b) for u in (user.user_id, "opposite")]
    own, opposite = (v.p or 0 for v in judge.verdicts(rows))
    assert (own - 0.5) * (opposite - 0.5) < -0.01


def _with_user(task: Task, user: object) -> Task:
    return dataclasses.replace(task, users={**task.users, "opposite": user})  # type: ignore[dict-item]


def test_each_text_is_read_once(judge: OfflineJudge, reads: list[Text]) -> None:
    measure_judge(judge, judge.task)
    n = len(reads)
    measure_judge(judge, judge.task)
    assert len(reads) == n


def test_the_key_follows_what_it_learns_from_only(made_task: Path, tmp_path: Path, reads: list[Text]) -> None:
    before = open_offline(load_task(made_task), Store(tmp_path / "a")).key
    answers = made_task / "answers.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    for_test = [r for r in rows if r["question_id"] == "q1"]  # q1 is a test question, q2 a judge one
    for_test[0]["text"] += " Quite."
    answers.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert open_offline(load_task(made_task), Store(tmp_path / "a")).key == before
    next(r for r in rows if r["question_id"] == "q2")["text"] += " Quite."
    answers.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert open_offline(load_task(made_task), Store(tmp_path / "a")).key != before


def test_a_shipped_judge_is_used_only_for_its_own_texts(
    made_task: Path, tmp_path: Path, reads: list[Text], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, store = load_task(made_task), Store(tmp_path / "store")
    fit(task, made_task / FILE, open_offline(task, Store(tmp_path / "other")).key)
    monkeypatch.setattr(judge_module, "fit", lambda *_: pytest.fail("fitted although shipped"))
    open_offline(task, store)
    monkeypatch.undo()
    stale = made_task / FILE
    from safetensors.numpy import load_file, save_file

    save_file(load_file(stale), stale, {"key": "of other texts"})
    monkeypatch.setattr(judge_module, "_read_states", _letters)
    assert not store.has_folder(open_offline(task, Store(tmp_path / "third")).key)
    assert Store(tmp_path / "third").has_folder(open_offline(task, Store(tmp_path / "third")).key)


def test_the_shipped_roleplay_judge_belongs_to_the_shipped_texts() -> None:
    folder = builtin_root() / "tasks" / "roleplay"
    assert key_of(folder / FILE) == judge_key(load_task(folder)), "refit it: make judge"
