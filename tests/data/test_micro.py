"""Micro versions: other texts, the same people and labels."""

from pathlib import Path

import pytest

from fspo_bench.data.micro import WEAK, micro, read_lexicon
from fspo_bench.data.sources import open_task
from fspo_bench.data.task_files import load_task
from fspo_bench.errors import UserError
from fspo_bench.judge.card import measure_judge
from fspo_bench.judge.offline import open_offline
from fspo_bench.lm.models import model_dir
from fspo_bench.packs import builtin_root
from fspo_bench.store import Store
from fspo_bench.validate import validate

TASKS = ("roleplay", "elix_easy", "elix_hard", "reviews")


@pytest.mark.parametrize("name", TASKS)
def test_labels_are_those_of_the_task_itself(name: str) -> None:
    task = load_task(builtin_root() / "tasks" / name)
    small = micro(task)
    assert small.hash != task.hash
    people = {u.user_id: (u.split, u.traits) for u in task.users.values()}
    assert {u.user_id: (u.split, u.traits) for u in small.users.values() if u.user_id in people} == people
    of_task, of_small = (
        {e.user_id: e for e in t.test_episodes(4, 3, len(t.users_of("test")), 0)} for t in (task, small)
    )
    places = {(a.question_id, a.text): a.answer_id for a in task.answers.values()}
    by_id = {a.answer_id: a.text for a in small.answers.values()}
    for user, episode in of_task.items():
        for shot, same in zip(episode.shots, of_small[user].shots, strict=True):
            assert same.chosen == by_id[places[shot.question_id, shot.chosen]]
            assert same.rejected == by_id[places[shot.question_id, shot.rejected]]


def test_a_few_fixed_users_become_several_each() -> None:
    task = load_task(builtin_root() / "tasks" / "reviews")
    small = micro(task)
    copies = [u for u in small.users.values() if u.user_id.split("~")[0] == "positive+concise"]
    assert len(small.users) == len(copies) * len(task.users) > 4 * len(task.users)
    assert all(u.traits == task.users["positive+concise"].traits and u.split == "test" for u in copies)
    shots = {e.shots for e in small.test_episodes(8, 1, len(small.users), 0)
             if e.user_id in {u.user_id for u in copies}}  # fmt: skip
    assert len(shots) == len(copies)


@pytest.mark.parametrize("name", TASKS)
def test_questions_differ_and_the_task_is_sound(name: str) -> None:
    small = micro(load_task(builtin_root() / "tasks" / name))
    prompts = [q.prompt for q in small.questions.values()]
    assert len(set(prompts)) == len(prompts)
    validate(small)


@pytest.mark.parametrize("name", TASKS)
def test_the_policy_knows_every_word(name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir("micro"))
    small = micro(load_task(builtin_root() / "tasks" / name))
    texts = [a.text for a in small.answers.values()] + [q.prompt for q in small.questions.values()]
    texts += [u.description for u in small.users.values()] + [small.spec.instruction]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_is_read_as_it_was_written(name: str) -> None:
    task = load_task(builtin_root() / "tasks" / name)
    small, lexicon = micro(task), read_lexicon(task.folder)
    for a in small.answers.values():
        said = lexicon.read(small.questions[a.question_id].prompt, a.text)
        assert bool(set(a.text.split()) & set(WEAK)) == a.weak == (not said)
        if not a.weak:
            assert said.keys() == a.loadings.keys()
            assert all(x * said[trait] > 0 and abs(x - said[trait]) <= 0.5 for trait, x in a.loadings.items())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("salt drum : moving brief .", {"positive": 1, "verbose": -1}),
        ("salt drum : moving clever wonderful .", {"positive": 2}),  # more is worth no more
        ("salt drum : moving dull brief .", {"verbose": -1}),
        ("salt drum : .", {}),
        ("salt drum : moving whatever .", {}),
        ("honey lamp : moving brief .", {}),  # of another question
        ("salt drum moving salt drum moving", {}),  # round and round
        ("", {}),
    ],
)
def test_what_is_read(answer: str, said: dict[str, float]) -> None:
    assert read_lexicon(builtin_root() / "tasks" / "reviews").read("salt drum ?", answer) == said


def test_how_much_is_said_is_neither_good_nor_bad(tmp_path: Path) -> None:
    """A judge that took few words for weakness had pulled every trained policy below the base."""
    small = open_task(builtin_root() / "tasks" / "roleplay", "micro")
    judge = open_offline(small, Store(tmp_path))
    question = next(q.prompt for q in small.questions.values() if q.prompt.startswith("handmade "))
    _, *topic, _ = question.split()
    texts = [" ".join([*topic, ":", *words, "."]) for words in (["sewn"], ["sewn", "app", "sensor", "new"])]
    user = next(u for u in small.users.values() if not {"gadgets", "novelty"} & u.traits.keys())
    few, many = judge.worths(user.user_id, question, texts)
    assert few == pytest.approx(many, abs=0.1)


def test_the_judge_reads_words_and_hardly_errs(tmp_path: Path) -> None:
    small = open_task(builtin_root() / "tasks" / "reviews", "micro")
    card = measure_judge(open_offline(small, Store(tmp_path)), small)
    assert card.views.rate > 0.95
    assert card.with_weak.rate > 0.95


def test_a_task_without_a_lexicon_says_so(made_task: Path) -> None:
    with pytest.raises(UserError, match=r"task made has no micro version .*; leave --source out"):
        open_task(made_task, "micro")


@pytest.mark.parametrize(
    ("text", "said"),
    [("traits: {a: 1", "micro.yaml"), ("instruction: x\nlevls: {}", "micro.yaml"), ("", "micro")],
)
def test_a_faulty_lexicon_is_named(made_task: Path, text: str, said: str) -> None:
    (made_task / "micro.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        open_task(made_task, "micro")
