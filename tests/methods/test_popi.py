"""POPI's summariser moves towards summaries behind which the generator does better than behind others."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fspo_bench.data.tasks import Preference
from fspo_bench.describe import REQUEST
from fspo_bench.lab import Lesson, TrainingEpisode
from fspo_bench.lm.prompts import shots_context
from fspo_bench.lm.train import Stage
from tests.test_describe import LIKES, TINY, FakeLab, method_of, planted_lab, seen_of


def test_advantages_have_mean_zero_and_one_scale_in_every_context() -> None:
    rewards = np.array([[1.0, 2.0, 3.0, 10.0], [-500.0, -100.0, -300.0, -100.0], [4.0, 4.0, 4.0, 4.0]])
    found = method_of("popi").module.advantages(rewards)
    assert found.mean(1) == pytest.approx([0, 0, 0])
    assert found.std(1) == pytest.approx([1, 1, 0])
    assert (found[0].argsort() == rewards[0].argsort()).all()


@pytest.mark.parametrize(("loss", "loss_of_2"), [("ipo", (2 - 5) ** 2), ("dpo", np.log1p(np.exp(-0.2)))])
def test_a_summarys_reward_is_minus_the_generators_loss_behind_it(loss: str, loss_of_2: float) -> None:
    class Scored(FakeLab):
        def logprobs(self, state: str, lessons: list[Lesson], label: str) -> list[list[float]]:
            (lesson,) = lessons
            assert lesson.context.system.endswith("Likes a.")
            assert lesson.answers == (("Q?", "good"), ("Q?", "bad"))
            return [[-10.0, -20.0] if state == "trained" else [-11.0, -19.0]]

    module = method_of("popi").module
    generator = module.Generator(Scored(), "trained", "reference", Stage(loss, 1, 1.0, beta=0.1))
    episode = TrainingEpisode("u", seen_of("u"), (Preference("q", "Q?", "good", "bad"),))
    assert generator.rewards([(episode, "Likes a.")]) == pytest.approx([-loss_of_2])


class LikesA:
    """A generator that does best behind summaries with an "a" and worst behind those with an "o"."""

    def rewards(self, summarised: Sequence[tuple[TrainingEpisode, str]]) -> list[float]:
        return [float(z.count("a") - z.count("o")) for _, z in summarised]


def test_better_summaries_become_likelier_and_worse_ones_less_likely(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = method_of("popi")
    lab = planted_lab(tmp_path, tiny_model, method, replace(TINY, contexts=16, lr=1e-3))
    monkeypatch.setattr(method.module, "SUMMARY_TOKENS", 8)
    both = [
        Lesson(shots_context(e.seen), tuple((REQUEST, text) for text in LIKES.values()))
        for e in lab.episodes(60, 9)
    ]
    lab.start = lab.train(Stage("sft", 60, 5e-3), both)
    assert lab.start
    taught: list[Lesson] = []
    original = lab.train

    started: list[str] = []

    def train(stage: Stage, lessons: list[Lesson], start: str) -> str:
        taught.extend(lessons)
        started.append(start)
        return original(stage, lessons, start)

    monkeypatch.setattr(lab, "train", train)
    trained = method.module.train_summariser(lab, method.config, LikesA())
    assert len(started) == len(set(started)) == 2, "sampled anew from the state reached"
    assert len(taught) == 16
    for lesson in taught:
        assert sum(lesson.weights) == pytest.approx(0)
        assert len(lesson.weights) == method.config.samples
    before, after = (np.array(lab.logprobs(state, both[:12], "")) for state in (lab.start, trained))
    liked, disliked = (after - before).T
    assert (liked > 0).all()
    assert (disliked < 0).all()


def test_the_generator_reads_the_summary_and_never_the_shots() -> None:
    method, lab = method_of("popi"), FakeLab()
    fitted = method.fit(lab)
    (_, _, first), (_, _, second), (begun, stage, last) = lab.taught
    for lessons, users in ((first, ["u0", "u1"]), (second, ["u20", "u21"])):
        assert [lesson.context.system.split("user: ")[1] for lesson in lessons] == [
            f"sample 0 on shot of {user}" for user in users
        ]
        assert all(not lesson.context.turns for lesson in lessons)
    assert (begun, stage.loss) == ("start", "sft"), "the summariser goes on from where the run starts"
    assert [lesson.context for lesson in last] == [shots_context(seen_of(u)) for u in ("u40", "u41")]
    assert {question for lesson in last for question, _ in lesson.answers} == {REQUEST}

    lab.written.clear()
    (reply,) = fitted.answer([(seen_of("new"), "why?")])
    (describer, _), (generator, ((context, _),)) = lab.written
    assert (describer, generator) == ("start>sft", "start>sft>ipo")
    assert reply.note == "start>sft on shot of new"
    assert context.system.endswith(reply.note)
    assert not context.turns


def test_no_true_description_is_taught() -> None:
    method, lab = method_of("popi"), FakeLab()
    method.fit(lab)
    assert "truth of" not in str(lab.taught)


@pytest.mark.parametrize("bad", [{"loss": "sft"}, {"samples": 1}])
def test_bad_settings_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
        method_of("popi").module.Config(**bad)
