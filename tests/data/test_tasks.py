"""Tasks: one clear sentence for every fault, labels that follow from traits, episodes that do not leak."""

import gzip
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Answer, Question, Task, TaskSpec, User
from fspo_bench.errors import UserError
from tests.conftest import write_rows
from tests.made import DROP, edit, levels_task, rated_task, rows_of

TRAITS = ("out", "calm", "thrift")
HALVES = st.integers(-6, 6).map(lambda n: n / 2)
TRAIT_VALUES = st.fixed_dictionaries(dict.fromkeys(TRAITS, HALVES))


@pytest.fixture(params=["structured", "rated"])
def either(request: pytest.FixtureRequest, tmp_path: Path, made_task: Path) -> Task:
    """A task of each form, with four users and questions a split."""
    return load_task(made_task if request.param == "structured" else rated_task(tmp_path / "rated"))


def one_question(
    loadings: list[dict[str, float]], weak: tuple[int, ...] = (), traits: dict[str, float] | None = None,
    **spec: float,
) -> tuple[Task, User]:  # fmt: skip
    """A task of one question in memory, and its one user."""
    user = User(user_id="u", split="train", traits=traits or {})
    answers = [
        Answer(answer_id=str(n), question_id="q", text=f"text {n}", loadings=given, weak=n in weak)
        for n, given in enumerate(loadings)
    ]
    task = Task(
        "one", Path(), TaskSpec(version=1, summary="s", license="l", **spec), {"u": user},
        {"q": Question(question_id="q", split="train", prompt="?")}, {a.answer_id: a for a in answers}, (),
        "h",
    )  # fmt: skip
    return task, user


def append(text: str) -> Callable[[Path], None]:
    return lambda file: file.write_text(file.read_text() + text)


def change(line: int, **changes: object) -> Callable[[Path], None]:
    return lambda file: edit(file, line, **changes)


FAULTS = [
    ("task.yaml", append("weak_shear: 1\n"), ["'weak_shear'", "unknown key", "did you mean 'weak_share'?"]),
    ("task.yaml", append("min_margin: -1\n"), ["'min_margin'", "greater than or equal to 0"]),
    ("task.yaml", lambda f: f.write_text("summary: x\nlicense: y\n"), ["'version'", "missing"]),
    ("task.yaml", append("a: b: c\n"), ["not YAML"]),
    ("task.yaml", lambda f: f.write_text(""), ["'whole value'"]),
    ("users.jsonl", change(2, split="tset"), ["line 2", "'split'", "'train', 'test', 'judge' or 'seen'"]),
    ("users.jsonl", change(2, descriptoin="x"), ["line 2", "'descriptoin'", "did you mean 'description'?"]),
    ("users.jsonl", change(3, traits={"out": "high"}), ["line 3", "'traits.out'", "number"]),
    ("users.jsonl", change(5, user_id="u0"), ["line 5", "'user_id'", "'u0' is there twice"]),
    ("users.jsonl", lambda f: f.write_text(""), ["no rows"]),
    ("questions.jsonl", append("{'a': 1}\n"), ["line 13", "not JSON", "at column 2"]),
    ("questions.jsonl", append("[1]\n"), ["line 13", "'whole value'"]),
    ("questions.jsonl", change(4, prompt=""), ["line 4", "'prompt'", "at least 1 character"]),
    ("questions.jsonl", change(6, question_id="q1"), ["line 6", "'question_id'", "'q1' is there twice"]),
    ("preferences.jsonl", change(17, chosen=DROP), ["line 17", "'chosen'", "missing"]),
    ("preferences.jsonl", change(17, chosen="a", rejected="a"), ["line 17", "'chosen'", "equals 'rejected'"]),
    ("preferences.jsonl", change(9, user_id="u99"), ["line 9", "'user_id'", "no such user 'u99'"]),
    ("preferences.jsonl", change(8, question_id="q99"), ["line 8", "no such question 'q99'"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "wanted"), FAULTS)
def test_a_fault_is_named_by_file_line_and_field(
    tmp_path: Path, name: str, fault: Callable[[Path], None], wanted: list[str]
) -> None:
    folder = rated_task(tmp_path / "rated")
    load_task(folder)  # sound before the fault
    fault(folder / name)
    with pytest.raises(UserError) as error:
        load_task(folder)
    assert str(error.value).startswith(str(folder / name))
    assert "\n" not in str(error.value)
    for part in wanted:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"answer_id": "q0/0"}, "line 7, field 'answer_id': 'q0/0' is there twice"),
        ({"question_id": "q77"}, "line 7, field 'question_id': no such question 'q77'"),
        ({"loadings": DROP}, "line 7, field 'loadings': missing"),
    ],
)
def test_a_faulty_answer_is_named_by_line_and_field(
    made_task: Path, changes: dict[str, object], wanted: str
) -> None:
    edit(made_task / "answers.jsonl", 7, **changes)
    with pytest.raises(UserError, match=wanted):
        load_task(made_task)


@pytest.mark.parametrize("name", ["task.yaml", "users.jsonl", "questions.jsonl", "preferences.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = rated_task(tmp_path / "rated")
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"no {name}") as error:
        load_task(folder)
    assert str(folder) in str(error.value)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    folder = rated_task(tmp_path / "rated")
    file = folder / "users.jsonl"
    file.write_bytes(file.read_bytes().replace(b"d4", b"caf\xe9"))
    with pytest.raises(UserError, match=r"users\.jsonl"):
        load_task(folder)


def test_a_file_that_is_not_gzip_is_named(tmp_path: Path) -> None:
    folder = rated_task(tmp_path / "rated")
    (folder / "users.jsonl").rename(folder / "users.jsonl.gz")
    with pytest.raises(UserError, match=r"users\.jsonl\.gz"):
        load_task(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_trait_that_is_no_number_is_an_error(made_task: Path, value: float) -> None:
    edit(made_task / "users.jsonl", 2, traits={"out": value})
    with pytest.raises(UserError, match=r"line 2, field 'traits\.out'"):
        load_task(made_task)


def test_gzipped_files_read_the_same(made_task: Path) -> None:
    plain = load_task(made_task)
    for stem in ("users", "questions", "answers"):
        file = made_task / f"{stem}.jsonl"
        made_task.joinpath(f"{stem}.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    zipped = load_task(made_task)
    assert (zipped.users, zipped.questions, zipped.answers) == (plain.users, plain.questions, plain.answers)
    assert list(zipped.train_episodes(2, 1, 5, 0)) == list(plain.train_episodes(2, 1, 5, 0))


def test_an_error_inside_a_gzipped_file_has_its_line(made_task: Path) -> None:
    edit(made_task / "users.jsonl", 5, split=DROP)
    file = made_task / "users.jsonl"
    made_task.joinpath("users.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    with pytest.raises(UserError, match=r"users\.jsonl\.gz, line 5, field 'split': missing"):
        load_task(made_task)


@pytest.mark.parametrize("name", ["task.yaml", "users.jsonl", "questions.jsonl", "answers.jsonl"])
def test_the_hash_covers_every_file(made_task: Path, name: str) -> None:
    before = load_task(made_task).hash
    assert load_task(made_task).hash == before
    file = made_task / name
    file.write_text(file.read_text().replace("thing 3", "thing three").replace("made", "mad")
                    .replace("Likes walk", "Likes a walk").replace("Hm 3", "Hmm 3"))  # fmt: skip
    assert load_task(made_task).hash != before


# --- labels ---


def test_labels_follow_traits_times_loadings() -> None:
    task, user = one_question([{"out": 1, "calm": 0.5}, {"out": -1, "calm": 3}], traits={"out": 2, "calm": 1})
    a, b = task.answers.values()
    assert task.utility(user, a) == 2 * 1 + 1 * 0.5
    assert task.utility(user, b) == 2 * -1 + 1 * 3
    label = task.prefer(user, b, a)
    assert label
    assert (label.chosen, label.rejected, label.prompt) == ("text 0", "text 1", "?")
    opposite = user.model_copy(update={"traits": {"out": -2, "calm": 1}})
    other = task.prefer(opposite, b, a)
    assert other
    assert other.chosen == "text 1"


def test_a_trait_the_user_lacks_counts_nothing() -> None:
    task, user = one_question([{"out": 1, "unknown": 9}, {"out": 1}], traits={"out": 2})
    assert task.prefer(user, *task.answers.values()) is None


def test_a_weak_answer_lacks_its_penalty() -> None:
    task, user = one_question([{"out": 1}, {"out": 2}], weak=(1,), traits={"out": 1}, weak_penalty=3)
    assert [task.utility(user, a) for a in task.answers.values()] == [1, 2 - 3]
    label = task.prefer(user, *task.answers.values())
    assert label
    assert label.rejected == "text 1"


@pytest.mark.parametrize(("margin", "labelled"), [(0.0, False), (0.5, False), (1.0, True), (2.0, True)])
def test_an_underdetermined_pair_gets_no_label(margin: float, labelled: bool) -> None:
    task, user = one_question([{"out": margin}, {"out": 0}], traits={"out": 1}, min_margin=1)
    a, b = task.answers.values()
    assert (task.prefer(user, a, b) is not None) == (task.prefer(user, b, a) is not None) == labelled
    assert task.draw(user, "train", Random(0), 1) == [(task.prefer(user, a, b),) if labelled else ()]


@given(
    TRAIT_VALUES, st.lists(TRAIT_VALUES, min_size=2, max_size=5), st.sets(st.integers(0, 4)), HALVES.map(abs)
)
def test_labels_of_a_user_never_contradict(
    traits: dict[str, float], loadings: list[dict[str, float]], weak: set[int], min_margin: float
) -> None:
    """A pair has one label whichever way it is asked, and the labels have no cycle."""
    task, user = one_question(
        loadings, tuple(weak), traits, weak_penalty=2.5, min_margin=min_margin, weak_share=0.5
    )
    over: dict[str, set[str]] = {a.text: set() for a in task.answers.values()}
    for a, b in itertools.combinations(task.answers.values(), 2):
        label = task.prefer(user, a, b)
        assert label == task.prefer(user, b, a)
        if label:
            over[label.chosen].add(label.rejected)
    while over:
        beaten = set().union(*over.values())
        tops = set(over) - beaten
        assert tops, f"a cycle among {over}"
        over = {text: below for text, below in over.items() if text not in tops}
    for seed in range(5):
        texts = {a.text: a for a in task.answers.values()}
        for drawn in task.draw(user, "train", Random(seed), 1)[0]:
            assert drawn == task.prefer(user, texts[drawn.chosen], texts[drawn.rejected])


@pytest.mark.parametrize(("share", "weak_drawn"), [(0.0, 0), (1.0, 200)])
def test_weak_share_decides_how_often_a_weak_answer_is_drawn(share: float, weak_drawn: int) -> None:
    task, user = one_question(
        [{"out": 1}, {"out": -1}, {}], weak=(2,), traits={"out": 2}, weak_share=share, weak_penalty=9
    )
    drawn = [task.draw(user, "train", Random(n), 1)[0][0] for n in range(200)]
    assert sum(d.rejected == "text 2" for d in drawn) == weak_drawn
    assert {d.chosen for d in drawn} == ({"text 0", "text 1"} if share else {"text 0"})


def test_a_rated_task_draws_the_users_own_rows(tmp_path: Path) -> None:
    task = load_task(rated_task(tmp_path / "rated"))
    user = task.users["u3"]
    given = {(r.question_id, r.chosen, r.rejected) for r in task.rows if r.user_id == "u3"}
    (drawn,) = task.draw(user, "train", Random(0), 99)
    assert {(d.question_id, d.chosen, d.rejected) for d in drawn} == given
    assert task.draw(user, "test", Random(0), 9) == [()]  # a train user rated no test question


def test_several_preferences_about_a_question_stay_on_one_side(tmp_path: Path) -> None:
    """And so do those about questions of one group (turns of a conversation)."""
    folder = rated_task(tmp_path / "rated")
    file = folder / "preferences.jsonl"
    more = [{**row, "rejected": f"never {n}"} for n, row in enumerate(rows_of(file))]
    write_rows(file, rows_of(file) + more)
    questions = rows_of(folder / "questions.jsonl")
    write_rows(folder / "questions.jsonl", [{**q, "group": "one" if q["question_id"] in ("q0", "q3") else ""}
                                            for q in questions])  # fmt: skip
    task = load_task(folder)
    seen = set()
    for seed in range(30):
        shots, queries = task.draw(task.users["u3"], "train", Random(seed), 2, 9)
        sides = [{task.questions[p.question_id].group or p.question_id for p in s} for s in (shots, queries)]
        assert len(shots) == 2
        assert not sides[0] & sides[1]
        seen.add(len(queries))
    assert seen == {4, 6}  # of 8: a pair of shots takes its question, or its group, with it


def test_a_train_user_with_too_few_preferences_is_passed_over(tmp_path: Path) -> None:
    folder = rated_task(tmp_path / "rated")
    file = folder / "preferences.jsonl"
    write_rows(file, [r for r in rows_of(file) if r["user_id"] != "u3" or r["question_id"] == "q0"])
    episodes = list(load_task(folder).train_episodes(2, 1, 9, 0))
    assert {e.user_id for e in episodes} == {"u0", "u6", "u9"}
    assert len(episodes) == 9


# --- episodes ---


def test_train_episodes_hold_train_users_and_questions_only(either: Task) -> None:
    episodes = list(either.train_episodes(2, 2, 40, seed=1))
    assert {e.user_id for e in episodes} == {u.user_id for u in either.users_of("train")}
    used = {p.question_id for e in episodes for p in (*e.shots, *e.queries)}
    assert used == {q.question_id for q in either.questions_of("train")}
    assert {(len(e.shots), len(e.queries)) for e in episodes} == {(2, 2)}


def test_test_episodes_take_shots_from_train_questions_and_queries_from_test_ones(either: Task) -> None:
    episodes = either.test_episodes(3, 2, 99, seed=1)
    assert sorted(e.user_id for e in episodes) == sorted(u.user_id for u in either.users_of("test"))
    assert {either.questions[p.question_id].split for e in episodes for p in e.shots} == {"train"}
    assert {either.questions[p.question_id].split for e in episodes for p in e.queries} == {"test"}
    assert {(len(e.shots), len(e.queries)) for e in episodes} == {(3, 2)}


@pytest.mark.parametrize("seed", range(5))
def test_shots_and_queries_of_an_episode_never_share_a_question(either: Task, seed: int) -> None:
    for episode in (*either.train_episodes(2, 2, 30, seed), *either.test_episodes(3, 3, 99, seed)):
        asked = [p.question_id for p in (*episode.shots, *episode.queries)]
        assert len(asked) == len(set(asked)), episode


def test_every_episode_holds_its_users_own_labels(made_task: Path) -> None:
    task = load_task(made_task)
    for episode in (*task.train_episodes(2, 2, 20, 0), *task.test_episodes(2, 2, 99, 0)):
        user = task.users[episode.user_id]
        for p in (*episode.shots, *episode.queries):
            texts = {a.text: a for a in task.answers_to[p.question_id]}
            assert p == task.prefer(user, texts[p.rejected], texts[p.chosen])
            assert task.utility(user, texts[p.chosen]) > task.utility(user, texts[p.rejected])


def test_the_same_seed_gives_the_same_episodes(either: Task) -> None:
    again = load_task(either.folder)
    assert list(either.train_episodes(2, 2, 9, 5)) == list(again.train_episodes(2, 2, 9, 5))
    assert either.test_episodes(2, 2, 9, 5) == again.test_episodes(2, 2, 9, 5)
    assert list(either.train_episodes(2, 2, 9, 5)) != list(either.train_episodes(2, 2, 9, 6))
    five, six = ({e.user_id: e for e in either.test_episodes(2, 2, 9, seed)} for seed in (5, 6))
    assert [e.user_id for e in five.values()] != [e.user_id for e in six.values()]
    assert any(five[user].shots != six[user].shots for user in five)


def test_fewer_users_are_the_first_of_more(either: Task) -> None:
    """A --limit run shares its episodes with the full one, and so its stored values."""
    assert either.test_episodes(2, 2, 2, 0) == either.test_episodes(2, 2, 4, 0)[:2]
    assert list(either.train_episodes(2, 2, 3, 0)) == list(either.train_episodes(2, 2, 9, 0))[:3]


def test_train_users_come_round_equally(either: Task) -> None:
    episodes = list(either.train_episodes(2, 2, 12, seed=0))
    assert set(Counter(e.user_id for e in episodes).values()) == {3}
    orders = [tuple(e.user_id for e in episodes[i : i + 4]) for i in (0, 4, 8)]
    assert len(set(orders)) > 1  # shuffled anew each round


def test_a_test_user_with_too_few_preferences_is_named(tmp_path: Path) -> None:
    folder = rated_task(tmp_path / "rated")
    file = folder / "preferences.jsonl"
    write_rows(file, [r for r in rows_of(file) if r["user_id"] != "u4" or r["question_id"] in ("q0", "q1")])
    task = load_task(folder)
    assert len(task.test_episodes(1, 1, 99, 0)) == 4
    with pytest.raises(
        UserError, match=r"user 'u4' \(test\) has preferences about 1 .* at least 2; .*--set shots"
    ):
        task.test_episodes(2, 1, 99, 0)


def test_a_train_user_needs_one_more_preference_than_shots(either: Task) -> None:
    assert len(next(either.train_episodes(3, 1, 1, 0)).queries) == 1
    with pytest.raises(UserError, match=r"user 'u\d+' \(train\) has preferences about 4 .* at least 5"):
        next(either.train_episodes(4, 1, 1, 0))


def test_a_test_user_without_a_held_out_preference_is_an_error(tmp_path: Path) -> None:
    folder = rated_task(tmp_path / "rated")
    file = folder / "preferences.jsonl"
    write_rows(file, [r for r in rows_of(file) if r["user_id"] != "u7" or r["question_id"] not in
                      ("q1", "q4", "q7", "q10")])  # fmt: skip
    with pytest.raises(UserError, match="user 'u7'"):
        load_task(folder).test_episodes(1, 1, 99, 0)


# --- scales and fixed users ---


def test_on_a_scale_the_nearer_answer_is_preferred(tmp_path: Path) -> None:
    task = load_task(levels_task(tmp_path / "levels"))
    two = task.users["u2"]
    worth = {a.answer_id: task.utility(two, a) for a in task.answers_to["q0"]}
    assert worth == {"q0/1": -1, "q0/2": 0, "q0/3": -1, "q0/4": -2, "q0/5": -3, "q0/weak": -5}
    by_id = task.answers
    assert task.prefer(two, by_id["q0/1"], by_id["q0/3"]) is None  # as near
    label = task.prefer(two, by_id["q0/5"], by_id["q0/3"])
    assert label
    assert label.chosen == by_id["q0/3"].text


def test_a_users_place_may_differ_by_kind_of_question(tmp_path: Path) -> None:
    task = load_task(levels_task(tmp_path / "levels", by_kind=True))
    one = task.users["u1"]
    assert task.questions["q0"].kind == "moon"
    assert task.questions["q4"].kind == "sea"
    assert [task.utility(one, task.answers[f"q0/{k}"]) for k in (1, 5)] == [0, -4]
    assert [task.utility(one, task.answers[f"q4/{k}"]) for k in (1, 5)] == [-4, 0]


def test_a_user_without_a_place_is_named(tmp_path: Path) -> None:
    folder = levels_task(tmp_path / "levels")
    edit(folder / "users.jsonl", 3, traits={"moon": 2})
    with pytest.raises(
        UserError, match=r"users.jsonl, line 3, field 'traits': has neither 'level' nor 'sea'"
    ):
        load_task(folder)


def test_fixed_users_train_and_come_round_again_in_the_test_with_other_shots(tmp_path: Path) -> None:
    task = load_task(levels_task(tmp_path / "levels"))
    assert {e.user_id for e in task.train_episodes(2, 2, 5, 0)} == set(task.users)
    episodes = task.test_episodes(2, 1, 12, 0)
    assert [e.round for e in episodes] == [0] * 5 + [1] * 5 + [2] * 2
    assert [e.user_id for e in episodes[:5]] == [e.user_id for e in episodes[5:10]]
    assert any(a.shots != b.shots for a, b in zip(episodes[:5], episodes[5:10], strict=True))
    test = {q.question_id for q in task.questions_of("test")}
    for e in episodes:
        assert not {p.question_id for p in e.shots} & test
        assert {p.question_id for p in e.queries} <= test
