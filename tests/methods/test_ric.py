"""RiC: scores say what texts are like, the policy obeys them, a user's shots say which to ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Preference
from fspo_bench.lab import Lab, Lesson, TrainingEpisode
from fspo_bench.lm.embed import sentence_embeddings
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import PromptEncoder, Seen
from fspo_bench.lm.train import Stage
from fspo_bench.packs import find_methods, load_method, packs, resolve
from fspo_bench.store import Store
from tests.conftest import SMALL

ric = load_method(resolve("ric", find_methods(packs()[:1]), "method"))

SHORT, LONG = "The sea is calm.", "The sea is calm and the sand is warm and the day is long."
PRAISE, CRITICISM = "A wonderful and excellent day, I love it.", "A terrible and boring day, I hate it."


def bag_of_words(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors that count words: texts that share words are near each other."""
    rows = np.zeros((len(texts), 384), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row[sum(ord(c) * 31**k for k, c in enumerate(word)) % 384] += 1
    return rows / np.maximum(1, np.linalg.norm(rows, axis=1, keepdims=True))


@dataclass
class FakeLab:
    """Training pairs as given; samples as written here; remembers what was trained."""

    pairs: list[Preference] = field(default_factory=list)
    written: list[str] = field(default_factory=lambda: [LONG])
    measured: dict[str, float] = field(default_factory=dict)
    preset: Any = SMALL
    start: str = "start"
    stages: list[tuple[Stage, list[Lesson], str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    sampling: tuple[Any, ...] = ()

    def episodes(self, n: int, seed: int, shots: int | None = None) -> list[TrainingEpisode]:
        return [TrainingEpisode("u", Seen(), tuple(self.pairs)) for _ in range(n)]

    def rng(self, *parts: object) -> np.random.Generator:
        return np.random.default_rng(len(repr(parts)))

    def sentences(self, texts: Sequence[str]) -> np.ndarray:
        return bag_of_words(texts)

    def train(self, stage: Stage, lessons: Sequence[Lesson], start: str) -> str:
        self.stages.append((stage, list(lessons), start))
        return f"state {len(self.stages)}"

    def sample(self, state: str, asked: Sequence[tuple[Any, str]], k: int, label: str, *how: float) -> Any:
        self.sampling = (state, k, *how)
        self.asked = [prompt for _, prompt in asked]
        return [[self.written[n % len(self.written)]] for n in range(len(asked))]

    def write(self, state: str, asked: Sequence[tuple[Any, str]]) -> list[str]:
        assert not any(context.system or context.opening or context.turns for context, _ in asked)
        return [prompt for _, prompt in asked]


def pair(chosen: str, rejected: str, prompt: str = "What now?") -> Preference:
    return Preference("q", prompt, chosen, rejected)


def scale(low: float = -2.0, high: float = 2.0) -> Any:
    k = len(ric.ATTRIBUTES)
    return ric.Scale(np.zeros(k), np.ones(k), np.full(k, low), np.full(k, high))


def scores_in(prompt: str) -> list[float]:
    return [float(x) for x in re.findall(r"<\w+> (-?\d+\.\d)", prompt)]


# --- scores ---


def test_z_scores_of_the_training_texts_have_mean_0_and_sd_1() -> None:
    texts = [SHORT, LONG, PRAISE, CRITICISM, "I told my friend and you.", "The device consists of steps."]
    raw = ric.attributes(FakeLab(), texts)
    fitted = ric.Scale.of(raw)
    z = fitted.z(raw)
    assert z.mean(0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert z.std(0) == pytest.approx(np.ones(4))
    assert (z.min(0) == fitted.low).all()
    assert (z.max(0) == fitted.high).all()
    further = fitted.z(ric.attributes(FakeLab(), [LONG + " " + LONG]))
    assert further[0, 0] > fitted.high[0], "later texts are scored by the training texts' mean and sd"


def test_an_attribute_that_never_differs_is_0_and_not_nan() -> None:
    fitted = ric.Scale.of(np.array([[1.0, 2.0, 0.3, 0.1], [1.0, 3.0, 0.4, 0.2]]))
    assert fitted.z(np.array([[1.0, 2.0, 0.3, 0.1]]))[0, 0] == 0


@pytest.mark.parametrize(
    ("attribute", "more", "less"),
    [
        ("length", LONG, SHORT),
        (
            "grade",
            "Photosynthesis converts electromagnetic radiation into chemical energy.",
            "The cat sat on the mat.",
        ),
        ("sentiment", PRAISE, CRITICISM),
        ("personal", "My friend, you and I can laugh about it.", "The procedure is to be stored."),
    ],
)  # fmt: skip
def test_scorers_order_texts(attribute: str, more: str, less: str) -> None:
    high, low = ric.attributes(FakeLab(), [more, less])[:, ric.ATTRIBUTES.index(attribute)]
    assert high > low


def test_reading_grade_is_flesch_kincaid() -> None:
    assert ric.reading_grade("The cat sat on the mat.") == pytest.approx(0.39 * 6 + 11.8 - 15.59)
    assert ric.reading_grade("We made it. Tables!") == pytest.approx(0.39 * 2 + 11.8 * 5 / 4 - 15.59)
    assert ric.reading_grade("?!") == 0


@pytest.mark.slow
def test_scorers_order_texts_by_the_real_sentence_model(tmp_path: Path) -> None:
    class Real:
        def sentences(self, texts: Sequence[str]) -> np.ndarray:
            return sentence_embeddings(texts, Store(tmp_path))

    texts = {
        "praise": ["The pianist gave a brilliant, moving performance.", "Lovely food and friendly waiters."],
        "criticism": ["The pianist gave a dull, clumsy performance.", "Cold food and rude waiters."],
        "personal": ["I was scared too, dear, but my mother held my hand.", "Call me and we will cook."],
        "impersonal": ["The form must be submitted by Friday.", "Water boils at a lower temperature there."],
    }  # fmt: skip
    z = {kind: ric.attributes(Real(), group) for kind, group in texts.items()}
    assert z["praise"][:, 2].min() > z["criticism"][:, 2].max()
    assert z["personal"][:, 3].min() > z["impersonal"][:, 3].max()


def test_the_question_stays_whole_before_its_scores() -> None:
    z = np.array([0.26, -1.0, -0.04, 3.0])
    question = "Why <length> were they done\n"
    text = ric.with_scores(question, z)
    assert text == question + "\n<length> 0.3 <grade> -1.0 <sentiment> 0.0 <personal> 3.0"


# --- a user ---


def thrice(text: str) -> str:
    """Longer, and neither harder to read nor of another tone."""
    return f"{text} {text} {text}"


def user(*shots: Preference) -> Seen:
    return Seen(tuple(shots))


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_recover_a_planted_taste_for_length(sign: int) -> None:
    """The longer answer always wins; praise and criticism win in turn."""
    pairs = [(thrice(PRAISE), CRITICISM), (thrice(CRITICISM), PRAISE)] * 2
    texts = [t for p in pairs for t in p]
    lab = FakeLab()
    fitted = ric.RiC(lab, ric.Scale.of(ric.attributes(lab, texts)), "state", 1.0)
    likes = user(*(pair(*p[::sign]) for p in pairs))
    w = fitted.weights([likes])[likes]
    assert sign * w[0] > 0
    assert abs(w[0]) == abs(w).max()
    (margin,) = fitted.margins([(likes, pair(thrice(SHORT), SHORT))])
    assert sign * margin > 0


def test_taste_is_the_ridge_logistic_optimum() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.3, 5.0):
        d = rng.normal(0, spread, (8, 4))
        w = ric.taste(d, 0.7)
        gradient = 0.7 * w - (d / (1 + np.exp(d @ w))[:, None]).sum(0)
        assert gradient == pytest.approx(np.zeros(4), abs=1e-8)
    assert (ric.taste(np.zeros((0, 4)), 1.0) == 0).all(), "no shots, no taste"


def test_the_l2_map_hits_the_ends_of_the_range() -> None:
    uneven = ric.Scale(np.zeros(4), np.ones(4), np.array([-1.0, -2, -3, -4]), np.array([3.0, 2, 1, 0]))
    centre = (uneven.low + uneven.high) / 2
    for i in range(4):
        only = np.eye(4)[i] * 0.2
        for w, end in ((only, uneven.high), (-only, uneven.low)):
            wanted = centre.copy()
            wanted[i] = end[i]
            assert ric.target(uneven, w) == pytest.approx(wanted)
    assert ric.target(uneven, np.array([3.0, 4, 0, 0])) == pytest.approx(
        centre + np.array([0.6, 0.8, 0, 0]) * 2
    )
    assert (ric.target(uneven, np.zeros(4)) == centre).all()


def test_each_user_is_answered_at_own_scores() -> None:
    lab = FakeLab()
    fitted = ric.RiC(lab, ric.Scale.of(ric.attributes(lab, [SHORT, LONG, PRAISE, CRITICISM])), "state", 1.0)
    likes_long, likes_short = user(pair(LONG, SHORT)), user(pair(SHORT, LONG), pair(SHORT, LONG))
    a, b, c = fitted.answer([(likes_long, "Where?"), (likes_short, "Where?"), (likes_long, "When?")])
    assert scores_in(a.text)[0] > scores_in(b.text)[0]
    assert scores_in(a.text) == scores_in(c.text)
    assert c.text.startswith("When?\n")


# --- online ---


def test_pareto_targets_have_all_but_the_smallest_at_an_extreme() -> None:
    where = scale(-2.0, 3.0)
    targets, signs = ric.pareto_targets(where, 400, np.random.default_rng(0))
    at_end = targets == np.where(signs > 0, 3.0, -2.0)
    assert (at_end.sum(1) == 3).all()
    free = targets[~at_end]
    assert (free > -2).all()
    assert (free < 3).all()
    assert free.std() > 0.5, "the smallest coordinate stays where it was drawn"
    gap = np.where(signs > 0, 3 - targets, targets + 2)[~at_end]
    assert gap.mean() > 3, "and it is the smallest, counted along its direction"
    assert 0.4 < (signs > 0).mean() < 0.6
    assert set(np.argmin(at_end, axis=1)) == {0, 1, 2, 3}


def test_quantile_rejection_keeps_what_lies_far_out_on_the_side_asked_for() -> None:
    values = np.linspace(-1, 1, 11)  # its 0.7 quantile is 0.4
    rows = [ric.Scored("q", str(n), np.full(4, v)) for n, v in enumerate(values)]
    up = np.ones((11, 4))
    assert [r.text for r in ric.frontier(rows, up, 0.7)] == ["7", "8", "9", "10"]
    assert [r.text for r in ric.frontier(rows, -up, 0.7)] == ["0", "1", "2", "3"]
    mixed = up * [1, 1, 1, -1]
    assert [r.text for r in ric.frontier(rows, mixed, 0.7)] == ["0", "1", "2", "3", "7", "8", "9", "10"]
    assert ric.frontier([], np.zeros((0, 4)), 0.7) == []


def test_samples_bear_the_scores_obtained_and_degenerate_ones_are_dropped() -> None:
    lab = FakeLab(written=[SHORT, LONG, "", "Two words"])
    fitted = ric.Scale.of(ric.attributes(lab, [SHORT, LONG, PRAISE, CRITICISM]))
    prompts = [f"Question {n}" for n in range(8)]
    kept = ric.explore(lab, fitted, "now", prompts, 0.0, np.random.default_rng(1))
    assert lab.sampling == ("now", 1, 0.7, 0.9)
    assert [row.text for row in kept] == [SHORT, LONG] * 2
    assert [row.prompt for row in kept] == [f"Question {n}" for n in (0, 1, 4, 5)]
    assert lab.measured["kept_share"] == 0.5
    asked = {prompt.split("\n")[0]: scores_in(prompt) for prompt in lab.asked}
    for row in kept:
        obtained = fitted.z(ric.attributes(lab, [row.text]))[0]
        assert row.z == pytest.approx(obtained)
        assert scores_in(ric.with_scores(row.prompt, row.z)) == pytest.approx(obtained, abs=0.051)
        assert scores_in(ric.with_scores(row.prompt, row.z)) != asked[row.prompt]


def test_asked_obtained_is_high_for_a_policy_that_obeys() -> None:
    class Obeys(FakeLab):
        """Of its two tones at random, as long as it is asked to be."""

        def sample(self, state: str, asked: Sequence[tuple[Any, str]], *how: Any) -> Any:
            tones = np.random.default_rng(2).choice([PRAISE, CRITICISM], len(asked))
            return [[thrice(t) if scores_in(p)[0] > 0 else t] for t, (_, p) in zip(tones, asked, strict=True)]

    lab = Obeys()
    fitted = ric.Scale.of(ric.attributes(lab, [PRAISE, CRITICISM, thrice(PRAISE), thrice(CRITICISM)]))
    ric.explore(lab, fitted, "now", ["What?"] * 60, 0.7, np.random.default_rng(1))
    assert lab.measured["asked_obtained_length"] > 0.8
    assert abs(lab.measured["asked_obtained_sentiment"]) < 0.4
    assert all(np.isfinite(value) for value in lab.measured.values())


def test_all_samples_degenerate_leave_the_originals() -> None:
    lab = FakeLab(pairs=[pair(LONG, SHORT), pair(PRAISE, CRITICISM)], written=[""])
    ric.fit(lab, ric.Config())
    assert lab.measured == {"kept_share": 0.0}
    texts = {text for lesson in lab.stages[1][1] for _, text in lesson.answers}
    assert texts
    assert texts <= {LONG, SHORT, PRAISE, CRITICISM}


def test_both_answers_first_then_online_from_the_last_state_at_a_lower_rate() -> None:
    new = "Sand, wind and foam."
    lab = FakeLab(pairs=[pair(LONG, SHORT), pair(PRAISE, CRITICISM)], written=[new])
    fitted = ric.fit(lab, ric.Config(rounds=2))
    (offline, lessons, start), (first, mixed, second_start), (_, more, third_start) = lab.stages
    assert (start, second_start, third_start, fitted.state) == ("start", "state 1", "state 2", "state 3")
    assert (offline.loss, first.loss) == ("sft", "sft")
    assert first.lr == pytest.approx(0.1 * offline.lr)
    items = [item for lesson in lessons for item in lesson.answers]
    assert [text for _, text in items] == [LONG, SHORT, PRAISE, CRITICISM] * 2
    for prompt, text in items:
        expected = fitted.scale.z(ric.attributes(lab, [text]))[0]
        assert scores_in(prompt) == pytest.approx(expected, abs=0.051), "each answer behind its own scores"
    texts = [text for lesson in mixed for _, text in lesson.answers]
    assert texts.count(new) == 4, "2 contexts x 2 queries"
    assert 1 <= sum(t in (LONG, SHORT, PRAISE, CRITICISM) for t in texts) <= 2, "half as many originals"
    assert [text for lesson in more for _, text in lesson.answers].count(new) == 8, "rounds accumulate"


@pytest.mark.parametrize("bad", [{"rounds": -1}, {"quantile": 1.0}, {"ridge": 0.0}, {"online_rate": 0.0}])
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ric.Config(**bad)


# --- the policy ---


def test_the_answer_moves_with_the_scores_asked_for(
    made_task: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kinds of answer to the same question; users with opposite taste get the opposite kind."""
    monkeypatch.setattr("fspo_bench.lab.sentence_embeddings", lambda texts, store: bag_of_words(texts))
    policy = Policy.open(str(tiny_model), 0, "float32", seed=0)
    lab = Lab(
        policy, PromptEncoder(policy.tokenizer, ""), SMALL, Store(tmp_path / "store"), 0, "key",
        _task=load_task(made_task), _seen=Seen, _trains_on_descriptions=False,
    )  # fmt: skip
    short, long = "Go.", "Up up."  # bytes are tokens, and the task's answers end after six
    raw = ric.attributes(lab, [short, long])
    fitted = ric.Scale.of(raw)
    rows = [ric.Scored("Eh?", text, z) for text, z in zip((short, long), fitted.z(raw), strict=True)] * 160
    state = ric.learn(lab, rows, 1e-2, lab.start)
    personal = ric.RiC(lab, fitted, state, 1.0)
    likes_long, likes_short = user(pair(long, short)), user(pair(short, long))
    answers = [reply.text for reply in personal.answer([(likes_long, "Eh?"), (likes_short, "Eh?")])]
    assert answers == [long, short]
