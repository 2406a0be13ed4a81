"""Figures of made data whose truth is known."""

import random
import tracemalloc
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from fspo_bench.data.task_files import load_head, load_task
from fspo_bench.data.tasks import PreferenceRow
from fspo_bench.evaluate.datacard import ideal_observer
from fspo_bench.synth.columns import Labels, SampledTexts, Table, read_columns, read_labels, text_hash
from fspo_bench.synth.metrics import (
    LN2,
    Disagreement,
    coin_entropy,
    crowd_observer,
    entropies,
    fall,
    mean_by_question,
    median_by_question,
    near_pairs,
    outcome_share,
    says_first,
    says_longer,
    wilson,
)
from fspo_bench.synth.recorded import LabelRow
from tests.conftest import write_task
from tests.made import rated_task
from tests.synth.made_stages import Labeller, always_first, label_rows, sure

FLIP = 3


def labels_of(labeller: Labeller, **options: int) -> Labels:
    rows = (LabelRow.model_validate(row) for row in label_rows(labeller, **options))
    return read_labels(rows, {f"q{q}/{n}": 10 + n for q in range(9) for n in range(2)})


def joined(first: Labels, second: Labels) -> Labels:
    both = (
        np.concatenate([getattr(part, n) for part in (first, second)]) for n in Labels.__dataclass_fields__
    )
    return Labels(*both)


# --- texts ---


def test_cosines_of_equal_answers_are_one_and_questions_are_the_unit() -> None:
    found = {"q1": np.ones(6), "q2": np.ones(6), "q3": np.zeros(6)}
    mean, median = mean_by_question(found), median_by_question(found)
    assert mean.value == pytest.approx(2 / 3)
    assert median.value == 1
    assert (mean.n_questions, mean.n) == (median.n_questions, median.n) == (3, 18)
    assert -1 <= mean.low < 2 / 3 < mean.high <= 1
    assert (median.low, median.high) == (0, 1)


def test_one_question_has_no_interval() -> None:
    assert np.isnan(mean_by_question({"q": np.ones(3)}).low)
    assert np.isnan(median_by_question({"q": np.ones(3)}).low)


def test_near_pairs_are_found_across_blocks_and_never_with_oneself() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1200, 64))
    vectors[1100] = vectors[3]
    vectors[20] = vectors[10] + 0.1 * vectors[11]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = near_pairs(vectors, 0.9)
    assert [pair for _, *pair in found] == [[3, 1100], [10, 20]]
    assert found[0][0] == pytest.approx(1)


def test_wilson_agrees_with_scipy() -> None:
    from scipy.stats import binomtest

    for hits, n in ((0, 5), (3, 17), (40, 40)):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits, n) == pytest.approx((100 * expected.low, 100 * expected.high))


@settings(deadline=None)
@given(st.lists(st.text("abc ", max_size=6), max_size=30), st.integers(1, 5), st.randoms())
def test_the_sample_of_texts_hangs_on_no_order(texts: list[str], most: int, rng: random.Random) -> None:
    samples = []
    for order in (texts, rng.sample(texts, len(texts))):
        sample = SampledTexts(most)
        for text in order:
            sample.add("q", text, text_hash(text))
        samples.append({text_hash(t) for t in sample.texts().get("q", [])})
    assert samples[0] == samples[1]
    assert len(samples[0]) == min(most, len({text_hash(t) for t in texts}))


# --- labels of a synthesis ---


def test_a_labeller_that_always_takes_the_first_has_flips_only_and_no_firm_label() -> None:
    labels = labels_of(always_first)
    found = entropies(labels)
    assert found.mean(found.nats).value == pytest.approx(LN2)
    assert found.mean(found.nats).n_users == 6
    first = says_first(labels)
    assert first and first.value == 100
    assert first.n == 2 * 6 * 5 * 4
    assert outcome_share(labels, FLIP).value == 100
    assert says_longer(labels) is None


def test_a_sure_labeller_has_no_entropy_no_flip_and_no_position() -> None:
    labels = labels_of(sure)
    found = entropies(labels)
    assert found.mean(found.nats).value == 0
    first = says_first(labels)
    assert first and first.value == 50
    assert outcome_share(labels, FLIP).value == 0


def test_a_lover_of_length_is_measured() -> None:
    longer = says_longer(labels_of(lambda *_: ("b", "b")))
    assert longer and longer.value == 100
    assert longer.n == 6 * 5 * 4


def test_few_tosses_look_firmer_than_the_coin_and_the_row_beside_says_how_much() -> None:
    assert coin_entropy(np.array([1, 2, 2, 4])) == pytest.approx(
        [0, LN2 / 2, LN2 / 2, 6 / 16 * LN2 + 8 / 16 * 0.5623351446188083]
    )
    assert coin_entropy(np.array([4000]))[0] == pytest.approx(LN2, abs=2e-4)
    rng = random.Random(0)
    found = entropies(
        labels_of(lambda *_: (rng.choice("ab"), rng.choice("ab")), users=100, questions=9, repeats=3)
    )
    coin = found.mean(found.of_a_coin).value
    assert coin < 0.65
    measured = found.mean(found.nats)
    assert measured.low < coin < measured.high


def test_refinement_is_measured_on_the_same_labels_and_each_persona_at_its_last() -> None:
    """Three of six users are refined, one of them twice."""
    before = labels_of(always_first)
    once, twice = labels_of(sure, refinement=1), labels_of(sure, refinement=2)
    labels = joined(joined(before, once.where(once.user < 3)), twice.where(twice.user < 1))
    first, last = entropies(labels.before), entropies(labels.after)
    assert len(first.pair) == len(last.pair) == 30
    assert last.mean(last.nats).value == pytest.approx(LN2 / 2)
    fallen = fall(first, last)
    assert fallen and fallen.value == pytest.approx(LN2 / 2)
    assert (fallen.n_users, fallen.n) == (6, 30)


def test_what_was_asked_once_or_never_answered_has_no_entropy() -> None:
    assert len(entropies(labels_of(sure, repeats=1)).pair) == 0
    silent = labels_of(lambda *_: (None, None))
    assert len(entropies(silent).pair) == 0
    assert says_first(silent) is None
    one_order = labels_of(lambda *_: ("a", None))
    assert len(entropies(one_order).pair) == 30
    first = says_first(one_order)
    assert first and (first.value, first.n) == (100, 120)


# --- users ---


def table_of(rows: list[list[int]], groups: list[int] | None = None) -> Table:
    """Users named by their place; every pair is a question."""
    labels = csr_matrix(np.array(rows, dtype=np.int32))
    labels.eliminate_zeros()
    columns = np.arange(labels.shape[1])
    return Table([f"u{n}" for n in range(len(rows))], labels, columns, np.array(groups or columns))


def test_copies_never_disagree_and_opposites_always_do() -> None:
    taste = [1, -1] * 8
    found = Disagreement.of(table_of([taste, taste, [-x for x in taste], [1] * 16]), least=10)
    assert found.never() == [(16, "u0", "u1")]
    assert found.rates[0, 2] == 1
    assert found.rates[0, 3] == 0.5
    assert np.isnan(found.rates[1, 1])
    mean = found.mean()
    assert mean and mean.value == pytest.approx(100 * (0 + 1 + 1 + 0.5 * 3) / 6)
    assert (mean.n_users, mean.n) == (4, 6)


def test_users_with_too_little_in_common_are_not_compared() -> None:
    found = Disagreement.of(table_of([[1] * 9 + [0] * 9, [0] * 9 + [1] * 9]), least=5)
    assert found.mean() is None
    assert found.never() == []
    assert found.expected_never() == 0


def test_two_users_have_a_rate_and_no_interval() -> None:
    mean = Disagreement.of(table_of([[1] * 10, [1] * 9 + [-1]]), least=10).mean()
    assert mean and mean.value == 10
    assert np.isnan(mean.low)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=7, max_size=7), min_size=3, max_size=8))
def test_disagreement_is_counted_as_by_hand(rows: list[list[int]]) -> None:
    found = Disagreement.of(table_of(rows), least=2)
    rates = []
    for (i, one), (j, other) in combinations(enumerate(rows), 2):
        both = [(x, y) for x, y in zip(one, other, strict=True) if x and y]
        assert found.common[i, j] == len(both)
        assert found.different[i, j] == sum(x != y for x, y in both)
        if len(both) >= 2:
            rates.append(sum(x != y for x, y in both) / len(both))
    mean = found.mean()
    assert (mean is None) == (not rates)
    if mean:
        assert mean.value == pytest.approx(100 * np.mean(rates))
        assert np.isnan(mean.low) or mean.low - 1e-9 <= mean.value <= mean.high + 1e-9


def test_the_jackknife_covers_the_truth_as_often_as_it_says() -> None:
    """Tastes are drawn anew: two users differ on half of the pairs in the mean."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        lean = rng.choice([0.2, 0.8], size=(12, 1))
        means = Disagreement.of(table_of(np.where(rng.random((12, 40)) < lean, 1, -1).tolist()), 10).mean()
        assert means
        truth = 0.5 * 2 * 0.2 * 0.8 + 0.5 * (0.8**2 + 0.2**2)
        covered += means.low <= 100 * truth <= means.high
    assert covered >= 180


# --- what shots tell ---


def camps(users: int = 20, pairs: int = 24) -> list[list[int]]:
    """Two camps of opposite tastes."""
    rng = random.Random(1)
    taste = [rng.choice([-1, 1]) for _ in range(pairs)]
    return [[x if u % 2 else -x for x in taste] for u in range(users)]


def test_a_shot_tells_the_camp_and_the_crowd_alone_does_not() -> None:
    table = table_of(camps())
    without, one, eight = (crowd_observer(table, shots, 50, 50) for shots in (0, 1, 8))
    assert without and one and eight
    assert without.accuracy.value == 0  # the other camp is one larger than one's own without oneself
    assert one.accuracy.value == eight.accuracy.value == 100
    assert (one.accuracy.n_users, one.accuracy.n_questions, one.accuracy.n) == (20, 24, 480)
    assert one.silent == 0


def test_shots_never_come_from_what_is_hidden() -> None:
    """One group of questions: nothing may be shown beside it."""
    table = table_of(camps(), groups=[0] * 12 + [1] * 12)
    assert crowd_observer(table, 13, 50, 50) is None
    assert crowd_observer(table, 12, 50, 50) is not None
    assert crowd_observer(table_of(camps(), groups=[7] * 24), 1, 50, 50) is None


def test_labels_that_nobody_else_gave_are_silent() -> None:
    rows = camps(4, 8)
    rows[0] = [0, 0, *rows[0][2:]]
    rows[1] = [0, 0, *rows[1][2:]]
    rows[2] = [rows[2][0], 0, *rows[2][2:]]
    rows[3] = [0, rows[3][1], *rows[3][2:]]
    found = crowd_observer(table_of(rows), 1, 50, 50)
    assert found and (found.asked, found.silent) == (26, 2)
    alone = [[1 if p // 4 == u else 0 for p in range(12)] for u in range(3)]
    assert crowd_observer(table_of(alone), 1, 50, 50) is None


def test_the_observers_of_traits_and_of_the_crowd_agree_where_both_can_look(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "task", users=90, questions=60))
    crowd = crowd_observer(Table.of_traits(task, 100), 8, 30, 20)
    assert crowd and abs(crowd.accuracy.value - ideal_observer(task, 8).value) < 8


# --- columns ---


def test_a_table_of_preferences_knows_who_prefers_what(tmp_path: Path) -> None:
    task = load_task(rated_task(tmp_path / "task"))
    rows = [
        PreferenceRow(user_id=u, question_id=q, chosen=c, rejected=r)
        for u, q, c, r in [
            ("u0", "q0", "Yes.", "No it is not."), ("u1", "q0", "no it  IS not.", "yes."),
            ("u1", "q1", "Yes.", "No it is not."), ("u3", "q0", "Yes.", "No it is not."),
            ("u3", "q0", "No it is not.", "Yes."),
        ]
    ]  # fmt: skip
    columns = read_columns(task, rows, {"q1"}, texts := SampledTexts(8))
    assert columns.longer.tolist() == [-1, 1, -1, -1, 1]
    table = Table.of_preferences(task, columns, 100)
    assert table.users == ["u0", "u1", "u3"]
    dense = table.labels.toarray()
    assert dense.shape == (3, 2)
    on_q0 = table.questions.tolist().index(0)
    assert dense[0, on_q0] == -dense[1, on_q0] != 0
    assert dense[2, on_q0] == 0  # of two minds
    assert np.count_nonzero(dense) == 3
    assert {t for lot in texts.texts().values() for t in lot} == {"Yes.", "No it is not."}


def test_a_large_table_is_cut_to_a_sample_of_users(tmp_path: Path) -> None:
    task = load_task(rated_task(tmp_path / "task", users=30))
    columns = read_columns(task, task.rows, set(), SampledTexts(8))
    whole, cut = (Table.of_preferences(task, columns, most) for most in (100, 5))
    assert len(cut.users) == 5
    for n, user in enumerate(cut.users):
        assert cut.labels[n].nnz == whole.labels[whole.users.index(user)].nnz > 0


def test_rows_are_streamed_into_few_bytes(tmp_path: Path) -> None:
    """8,000 preferences are 4 MB of text, and 0.2 MB of columns."""
    task = load_head(rated_task(tmp_path / "task"))
    users, questions = list(task.users), list(task.questions)

    def rows() -> Iterator[PreferenceRow]:
        for n in range(8_000):
            text = f"{n} " * 50
            yield PreferenceRow.model_construct(
                user_id=users[n % 12], question_id=questions[n // 12 % 12], chosen=text, rejected=text + "."
            )

    tracemalloc.start()
    texts = SampledTexts(8)
    columns = read_columns(task, rows(), {"q0", "q1"}, texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(columns.user) == 8_000
    assert peak < 1_000_000
    assert all(len(lot) == 8 for lot in texts.texts().values())
