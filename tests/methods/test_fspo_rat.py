"""RAT prefers the nearest of its own descriptions; no test user's true one ever reaches it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fspo_bench.data.tasks import User
from fspo_bench.describe import REQUEST, describe, sample_descriptions
from fspo_bench.errors import UserError
from fspo_bench.lab import Lab, TrainingEpisode
from fspo_bench.lm.prompts import PromptEncoder, shots_context
from fspo_bench.method import Method
from tests.test_describe import LIKES, TINY, FakeLab, letters, method_of, planted_lab, seen_of

TRAINED = replace(TINY, sft_contexts=80, sft_lr=5e-3, contexts=40, lr=3e-4)


@pytest.fixture(autouse=True)
def letters_for_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fspo_bench.lab.sentence_embeddings", letters)


@dataclass
class Places:
    """Sentences as given directions, in degrees."""

    degrees: dict[str, float]

    def sentences(self, texts: Sequence[str]) -> np.ndarray:
        angles = np.radians([self.degrees[text] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_nearest_is_preferred_to_the_farthest_unless_they_are_alike() -> None:
    module = method_of("fspo_rat").module
    lab = Places({"truth": 0, "near": 10, "nearer": -5, "far": 80, "farther": 170, "almost": 12})
    one, two, three = (TrainingEpisode(u, seen_of(u), (), "truth") for u in ("u1", "u2", "u3"))
    drawn = [["far", "near", "farther", "nearer"], ["near", "almost", "near", "nearer"], ["far", "almost"]]
    lessons = module.pair_lessons(lab, [one, two, three], drawn, margin=0.05)
    assert [lesson.context for lesson in lessons] == [shots_context(e.seen) for e in (one, three)]
    assert [lesson.answers for lesson in lessons] == [
        ((REQUEST, "nearer"), (REQUEST, "farther")),
        ((REQUEST, "almost"), (REQUEST, "far")),
    ]
    assert len(module.pair_lessons(lab, [one, two, three], drawn, margin=0.01)) == 3


def test_the_preference_stage_brings_descriptions_nearer_to_the_truth(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = _brief(monkeypatch)
    lab = planted_lab(tmp_path, tiny_model, method, TRAINED)
    states = _states_of(lab, monkeypatch)
    trained = method.module.train_describer(lab, method.config)
    warm, preferred = states
    assert trained == preferred
    assert _closeness(lab, preferred) > _closeness(lab, warm) + 0.05
    measured = lab.measured
    assert measured["descriptions_sampled"] > measured["description_pairs"] > 10
    assert measured["description_similarity_true"] > measured["description_similarity_random"] + 0.2
    assert measured["description_similarity_true"] != measured["description_similarity_before"]


def _brief(monkeypatch: pytest.MonkeyPatch) -> Method:
    """The method, with descriptions of eight tokens."""
    method = method_of("fspo_rat")
    monkeypatch.setattr(method.module, "describe", partial(describe, max_new_tokens=8))
    monkeypatch.setattr(method.module, "sample_descriptions", partial(sample_descriptions, max_new_tokens=8))
    return method


def _states_of(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    states, original = [], lab.train

    def train(*args: object) -> str:
        states.append(original(*args))  # type: ignore[arg-type]
        return states[-1]

    monkeypatch.setattr(lab, "train", train)
    return states


def _closeness(lab: Lab, state: str) -> float:
    """Of what the describer samples behind new shots to the true description."""
    episodes = lab.episodes(12, 99)
    drawn = sample_descriptions(lab, state, [e.seen for e in episodes], 8, 8)
    truths = lab.sentences([e.description for e in episodes])
    return float(np.mean([lab.sentences(texts) @ truth for texts, truth in zip(drawn, truths, strict=True)]))


@pytest.mark.parametrize("train_on", ["true", "own"])
def test_the_answerer_learns_and_answers_behind_shots_and_description(train_on: str) -> None:
    method, lab = method_of("fspo_rat"), FakeLab()
    fitted = method.module.fit(lab, method.module.Config(train_on=train_on))
    describer = "start>sft"  # every fake sample has the same letters, so there is nothing to prefer
    answerer = [lessons for _, _, lessons in lab.taught if lessons[0].answers[0][0] != REQUEST]
    users = [["u0", "u1"], ["u20", "u21"]]
    for lessons, names in zip(answerer, users, strict=True):
        for lesson, user in zip(lessons, names, strict=True):
            text = f"truth of {user}" if train_on == "true" else f"{describer} on shot of {user}"
            assert lesson.context.system.endswith(text)
            assert lesson.context.turns == shots_context(seen_of(user)).turns
    lab.written.clear()
    (reply,) = fitted.answer([(seen_of("new"), "why?")])
    assert reply.note == f"{describer} on shot of new"
    (_, _), (state, ((context, _),)) = lab.written
    assert state == "start>sft>ipo"
    assert context.system.endswith(reply.note)
    assert context.turns == shots_context(seen_of("new")).turns


def test_measured_users_are_held_back_where_there_are_enough() -> None:
    module, lab = method_of("fspo_rat").module, FakeLab()
    *trained_on, held_back = module._described_episodes(lab, 25, 25)
    held = {e.user_id for e in held_back}
    assert held == {f"u{n}" for n in range(20, 36)}
    assert {e.user_id for part in trained_on for e in part}.isdisjoint(held)
    assert [len(part) for part in trained_on] == [25, 20], "the second draw had five of them"
    assert lab.measured["description_users_held_back"] == 16

    few = FakeLab(users=("u1", "u2"))
    *trained_on, _ = module._described_episodes(few, 5, 5)
    assert [len(part) for part in trained_on] == [5, 5]
    assert few.measured["description_users_held_back"] == 0


def test_no_true_description_of_a_test_user_is_read(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = _brief(monkeypatch)
    lab = planted_lab(tmp_path, tiny_model, method)
    read: list[str] = []
    original = PromptEncoder._ids
    monkeypatch.setattr(
        PromptEncoder, "_ids", lambda self, text: (read.append(text), original(self, text))[1]
    )
    fitted = replace(method.fit(lab), max_new_tokens=8)
    shots = lab.episodes(1, 0)[0].seen.shots
    seen = method.seen(User(user_id="new", split="test", description="SECRET"), shots)
    fitted.answer([(seen, "Why?")])
    fitted.margins([(seen, shots[0])])
    assert seen.description == ""
    assert not any("SECRET" in text for text in read)
    assert set(LIKES.values()) & set(read), "training users' descriptions are what it learns from"


def test_without_descriptions_there_is_nothing_to_learn_from() -> None:
    class Undescribed(FakeLab):
        def episodes(self, *args: int, **more: int) -> list[TrainingEpisode]:
            return [replace(e, description="") for e in super().episodes(*args, **more)]

    with pytest.raises(UserError, match="true descriptions"):
        method_of("fspo_rat").fit(Undescribed())


@pytest.mark.parametrize(
    "bad", [{"loss": "sft"}, {"samples": 1}, {"margin": 0.0}, {"margin": 2.0}, {"train_on": "both"}]
)
def test_bad_settings_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
        method_of("fspo_rat").module.Config(**bad)
