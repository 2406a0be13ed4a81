"""A description stands before the question, in answers and in rankings alike, and is kept as the note."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Preference, User
from fspo_bench.describe import (
    REQUEST,
    DescribeThenAnswer,
    shots_and_description,
    told,
)
from fspo_bench.lab import Lab, Lesson, TrainingEpisode
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen, shots_context
from fspo_bench.lm.train import Stage, two_stages
from fspo_bench.method import Method, open_methods
from fspo_bench.packs import find_methods, packs, resolve
from fspo_bench.presets import Preset
from fspo_bench.store import Store
from tests.conftest import SMALL, write_rows

TINY = replace(SMALL, lora_rank=0, shots=1)
LIKES = {"a": "aa.", "o": "oo."}
"""What a planted user's preferred answers are made of, and the user's description."""


def planted_lab(tmp_path: Path, tiny_model: Path, method: Method, preset: Preset = TINY) -> Lab:
    """The lab of a task whose users like either of two letters, as their shots and descriptions say."""
    policy = Policy.open(str(tiny_model), preset.lora_rank, preset.dtype, seed=0)
    return Lab(
        policy, PromptEncoder(policy.tokenizer, ""), preset, Store(tmp_path / "store"), 0, "key",
        _task=load_task(_planted_task(tmp_path / "planted")), _seen=method.seen,
        _trains_on_descriptions="train_descriptions" in method.module.SEES,
    )  # fmt: skip


def _planted_task(folder: Path) -> Path:
    folder.mkdir()
    folder.joinpath("task.yaml").write_text(
        "version: 1\nsummary: Planted.\nlicense: CC0-1.0\nmax_new_tokens: 6\n"
    )
    users = [(f"{letter}{n}", letter) for n in range(30) for letter in LIKES]
    write_rows(
        folder / "users.jsonl",
        [{"user_id": name, "split": "train", "description": LIKES[letter]} for name, letter in users],
    )
    write_rows(
        folder / "questions.jsonl",
        [{"question_id": f"q{n}", "split": "train", "prompt": f"Q{n}?"} for n in range(12)],
    )
    write_rows(
        folder / "preferences.jsonl",
        [
            {"user_id": name, "question_id": f"q{n}", "chosen": 60 * letter,
             "rejected": 60 * ("o" if letter == "a" else "a")}
            for name, letter in users for n in range(12)
        ],
    )  # fmt: skip
    return folder


def method_of(name: str, preset: Preset = TINY) -> Method:
    ((method, _),) = open_methods([resolve(name, find_methods(packs()[:1]), "method")], preset, {})
    return method


def letters(texts: list[str], store: object) -> np.ndarray:
    """Stands for the sentence embedder: unit vectors of letter counts."""
    counts = np.array([[0.2 + t.count("a"), 0.2 + t.count("o")] for t in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@dataclass
class FakeLab:
    """A policy that writes what the test says, and notes what it is asked and taught."""

    preset: Preset = TINY
    start: str = "start"
    parameters: int = 10
    measured: dict[str, float] = field(default_factory=dict)
    users: tuple[str, ...] = tuple(f"u{n}" for n in range(60))
    written: list[tuple[str, list[tuple[Context, str]]]] = field(default_factory=list)
    taught: list[tuple[str, Stage, list[Lesson]]] = field(default_factory=list)

    def episodes(self, n: int, seed: int, queries: int = 2) -> list[TrainingEpisode]:
        """Draw `seed` begins at another user."""
        names = [self.users[(20 * seed + k) % len(self.users)] for k in range(n)]
        pairs = tuple(Preference(f"q{k}", f"Q{k}?", "good", "bad") for k in range(queries))
        return [TrainingEpisode(u, seen_of(u), pairs, f"truth of {u}") for u in names]

    def train(self, stage: Stage, lessons: list[Lesson], start: str | None = None) -> str:
        begun = self.start if start is None else start
        self.taught.append((begun, stage, lessons))
        return f"{begun}>{stage.loss}"

    train_stages = Lab.train_stages

    def write(self, state: str, asked: list[tuple[Context, str]], *rest: object) -> list[str]:
        """Descriptions name the state and the last shot; answers are the question in capitals."""
        self.written.append((state, asked))
        return [f"{state} on {c.turns[-1][1]}" if q == REQUEST else q.upper() for c, q in asked]

    def sample(self, state: str, asked: list[tuple[Context, str]], k: int, *rest: object) -> list[list[str]]:
        return [[f"sample {n} on {c.turns[-1][1]}" for n in range(k)] for c, _ in asked]

    def sentences(self, texts: list[str]) -> np.ndarray:
        return letters(texts, None)

    def logprobs(self, state: str, lessons: list[Lesson], label: str) -> list[list[float]]:
        """Chosen is 3 above rejected, or, in the state `start>sft`, 1; more for a longer system message."""
        gap = 1 if state == "start>sft" else 3 + len(lessons[0].context.system) / 1000
        return [[gap if text == "good" else 0.0 for _, text in lesson.answers] for lesson in lessons]

    def answer_tokens(self, text: str) -> int:
        return len(text)


def seen_of(user: str) -> Seen:
    return Seen(shots=(Preference("q", "Q?", f"shot of {user}", "other"),), show_rejected=False)


def test_nothing_to_tell_leaves_the_context_as_it_is() -> None:
    shots = shots_context(seen_of("u1"))
    assert told(shots, "") == shots
    assert told(shots, "Likes a.").turns == shots.turns
    assert told(shots, "Likes a.").system.startswith(shots.system)
    assert told(Context(), "Likes a.").system.endswith("Likes a.")


def test_answers_stand_behind_the_description_and_keep_it() -> None:
    lab = FakeLab()
    fitted = DescribeThenAnswer(lab, "describer", shots_and_description, "answerer")
    one, two = seen_of("u1"), seen_of("u2")
    replies = fitted.answer([(one, "why?"), (two, "why?"), (one, "how?")])
    assert [r.text for r in replies] == ["WHY?", "WHY?", "HOW?"]
    assert [r.note for r in replies] == [f"describer on shot of {u}" for u in ("u1", "u2", "u1")]
    (describer, requests), (answerer, asked) = lab.written
    assert (describer, answerer) == ("describer", "answerer")
    assert requests == [(shots_context(one), REQUEST), (shots_context(two), REQUEST)], "one each, in one go"
    assert [(c.turns, q) for c, q in asked] == [
        (shots_context(seen).turns, q) for seen, q in [(one, "why?"), (two, "why?"), (one, "how?")]
    ]
    assert all(r.note in c.system for r, (c, _) in zip(replies, asked, strict=True))


def test_pairs_are_ranked_behind_the_same_context_against_the_reference() -> None:
    lab = FakeLab()
    fitted = DescribeThenAnswer(lab, "describer", shots_and_description, "answerer", "start>sft")
    seen, pair = seen_of("u1"), Preference("q", "Q?", "good", "bad")
    told_of = len(shots_and_description(seen, "describer on shot of u1").system)
    assert fitted.margins([(seen, pair)]) == pytest.approx([3 + told_of / 1000 - 1])


def test_a_policy_goes_through_both_stages_behind_the_given_contexts() -> None:
    lab = FakeLab()
    stages = two_stages("dpo", lab.preset)
    state, reference = lab.train_stages(stages, lambda es: [Context(system=e.user_id) for e in es])
    assert (state, reference) == ("start>sft>dpo", "start>sft")
    assert [begun for begun, *_ in lab.taught] == ["start", "start>sft"]
    assert [[lesson.context.system for lesson in lessons] for *_, lessons in lab.taught] == [
        ["u0", "u1"], ["u20", "u21"]
    ]  # fmt: skip
    assert [len(lessons[0].answers) for *_, lessons in lab.taught] == [2, 4], "chosen alone, then pairs"


@pytest.mark.parametrize(("loss", "beta"), [("ipo", 0.3), ("dpo", 0.7)])
def test_each_loss_has_its_own_beta(loss: str, beta: float) -> None:
    sft, preference = two_stages(loss, replace(TINY, ipo_beta=0.3, dpo_beta=0.7, sft_lr=2.0, lr=3.0))
    assert (sft.loss, sft.lr) == ("sft", 2.0)
    assert (preference.loss, preference.lr, preference.beta) == (loss, 3.0, beta)


@pytest.mark.parametrize("show_rejected", [False, True])
def test_persona_shots_reads_the_true_description_and_the_shots(show_rejected: bool) -> None:
    method = method_of("persona_shots", replace(TINY, show_rejected=show_rejected))
    shots = (Preference("q", "Q?", "this one", "that one"),)
    context = method.context(method.seen(User(user_id="u", split="test", description="Likes a."), shots))
    assert "Likes a." in context.system
    bare = shots_context(Seen(shots, show_rejected=show_rejected))
    assert (context.turns, context.opening) == (bare.turns, bare.opening)
    assert "this one" in str(context)
