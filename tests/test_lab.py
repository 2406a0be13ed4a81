"""What a method works with: what it may know, samples and pools that are the same again, best of K."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Preference
from fspo_bench.errors import UserError
from fspo_bench.lab import Lab, Lesson, lesson_of
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen
from fspo_bench.lm.train import Stage
from fspo_bench.method import open_methods
from fspo_bench.packs import find_methods, packs, resolve
from fspo_bench.run import Request, _lab
from fspo_bench.store import Store
from tests.conftest import SMALL

FOUND = find_methods(packs()[:1])


@pytest.fixture
def lab_of(made_task: Path, tiny_model: Path, tmp_path: Path) -> Callable[..., Lab]:
    def lab_of(method: str = "fspo", store: str = "store", seed: int = 0) -> Lab:
        ((opened, preset),) = open_methods([resolve(method, FOUND, "method")], SMALL, {}, (), FOUND)
        task = load_task(made_task)
        policy = Policy.open(str(tiny_model), 4, "float32", seed)
        request = Request(task, opened, preset, seed, None, None, tmp_path, "")
        return _lab(request, policy, PromptEncoder(policy.tokenizer, ""), Store(tmp_path / store))

    return lab_of


def test_training_shows_train_users_and_no_description(lab_of: Callable[..., Lab]) -> None:
    lab = lab_of()
    episodes = lab.episodes(6, 0)
    assert {e.user_id for e in episodes} <= {u.user_id for u in lab._task.users_of("train")}
    assert {e.description for e in episodes} | {e.seen.description for e in episodes} == {""}
    test_questions = {q.prompt for q in lab._task.questions_of("test")}
    for e in episodes:
        assert not test_questions & {p.prompt for p in (*e.seen.shots, *e.queries)}
        assert not {s.prompt for s in e.seen.shots} & {q.prompt for q in e.queries}


def test_descriptions_of_train_users_are_for_those_who_declare_it(lab_of: Callable[..., Lab]) -> None:
    lab = lab_of("fspo_rat")
    for e in lab.episodes(4, 0):
        assert e.description == lab._task.users[e.user_id].description != ""
        assert e.seen.description == ""


def test_the_judge_is_for_those_who_declare_it(lab_of: Callable[..., Lab]) -> None:
    with pytest.raises(UserError, match="must declare SEES = \\('judge',\\)"):
        lab_of("fspo").worth(Seen(user_id="u0"), "What about thing 0?", ["a"])


def test_the_random_stream_hangs_on_the_seed_and_what_it_is_for_alone(lab_of: Callable[..., Lab]) -> None:
    draws = {name: float(lab_of(name).rng("x").random()) for name in ("fspo", "ipo")}
    assert draws["fspo"] == draws["ipo"], "not on the method's file"
    assert lab_of().rng("y").random() != draws["fspo"] != lab_of(seed=1).rng("x").random()


def test_samples_are_the_same_again_and_differ_from_each_other(lab_of: Callable[..., Lab]) -> None:
    asked = [(Context(), "What about thing 1?"), (Context(system="x"), "What about thing 1?")]
    drawn = lab_of().sample("", asked, 4, "samples", 1.0, 0.95)
    again = lab_of(store="another").sample("", asked[::-1], 5, "samples", 1.0, 0.95)[::-1]
    assert [row[:4] for row in again] == drawn, "whatever decodes beside, in whatever order, however many"
    assert len(set(drawn[0])) > 1
    assert drawn[0] != drawn[1]


def test_a_low_temperature_is_greedy(lab_of: Callable[..., Lab]) -> None:
    lab, asked = lab_of(), [(Context(), "What about thing 1?"), (Context(), "And thing 2?")]
    drawn = lab.sample("", asked, 2, "samples", 1e-4, 1.0)
    assert drawn == [[text] * 2 for text in lab.write("", asked)]


def test_the_pool_is_the_untouched_models_whatever_was_trained(lab_of: Callable[..., Lab]) -> None:
    lab = lab_of()
    before = lab.candidates(["What about thing 1?"])
    (texts,) = before.values()
    assert 1 <= len(texts) <= lab.preset.candidates
    assert len(set(texts)) == len(texts)
    state = lab.train(Stage("sft", 1, 0.1), [Lesson(Context(), (("a", "b"),))])
    assert lab.write(state, [(Context(), "a")]) != lab.write("", [(Context(), "a")])
    assert lab_of(store="another").candidates(["What about thing 1?"]) == before
    lab.store = Store(lab.store.root / "empty")
    assert lab.candidates(["What about thing 1?"]) == before


def test_training_starts_from_the_state_given(lab_of: Callable[..., Lab]) -> None:
    lab, stage = lab_of(), Stage("sft", 1, 1e-2)
    lessons = [Lesson(Context(), (("a", "b"),))]
    first = lab.train(stage, lessons)
    assert lab.train(stage, lessons) == first, "from the start again, not from where the last one ended"
    assert lab.train(stage, lessons, first) != first
    assert lab.parameters == lab.policy.trained_parameters() > 0


def test_a_weight_below_zero_makes_an_answer_less_likely(lab_of: Callable[..., Lab]) -> None:
    lab = lab_of()
    lesson = Lesson(Context(), (("ask", "good"), ("ask", "poor")), (1.0, -1.0))
    state = lab.train(Stage("sft", 1, 1e-2), [lesson] * 3)
    (before,), (after,) = lab.logprobs("", [lesson], "before"), lab.logprobs(state, [lesson], "after")
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_what_a_stage_fits() -> None:
    pair = Preference("q", "Where?", "Sea.", "Town.")
    both = (("Where?", "Sea."), ("Where?", "Town."))
    assert lesson_of(Context(), [pair], Stage("sft", 1, 1.0)).answers == both[:1]
    assert lesson_of(Context(), [pair], Stage("sft", 1, 1.0, targets="both")).answers == both
    assert lesson_of(Context(), [pair], Stage("ipo", 1, 1.0, 0.1)).answers == both


def test_a_small_model_is_trained_once_for_the_same_run(lab_of: Callable[..., Lab]) -> None:
    built = []

    def build() -> dict[str, torch.Tensor]:
        built.append(1)
        return {"w": torch.ones(2)}

    assert torch.equal(lab_of().remembered("small", build)["w"], torch.ones(2))
    lab_of().remembered("small", build)
    assert len(built) == 1
    lab_of(seed=1).remembered("small", build)
    lab_of("pref_ft").remembered("small", build)
    assert len(built) == 3


def test_frozen_states_are_of_the_untouched_model_and_its_pooling(lab_of: Callable[..., Lab]) -> None:
    lab, texts = lab_of(), [("a?", "yes."), ("a longer question?", "no, never."), ("a?", "yes.")]
    last = lab.hidden(texts, "last")
    assert last.shape == (3, 32)
    assert (last[0] == last[2]).all()
    lab.train(Stage("sft", 1, 0.1), [Lesson(Context(), (("a", "b"),))])
    alone = lab_of(store="another").hidden(texts[1:2], "last")
    assert alone[0] == pytest.approx(last[1], abs=1e-4), "no padding is seen"
    assert abs(lab.hidden(texts, "mean") - last).max() > 0.01


def test_a_small_model_is_trained_anew_on_other_embeddings(
    lab_of: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def build() -> dict[str, torch.Tensor]:
        built.append(1)
        return {"w": torch.ones(2)}

    lab_of().remembered("small", build)
    monkeypatch.setattr("fspo_bench.lab.EMBEDDINGS", 0)
    lab_of().remembered("small", build)
    assert len(built) == 2
