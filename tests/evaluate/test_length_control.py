"""Length-controlled rates on planted tables: what length alone does goes, what a method does stays."""

import numpy as np
import pytest

from fspo_bench.evaluate.length_control import Judgements, length_controlled

USERS, QUESTIONS = 20, 15


def planted(theta: float, longer: float, slope: float, seed: int, users: int = USERS) -> Judgements:
    """Wins drawn by a method's worth and by length, on users and questions that differ in difficulty."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(99)
    of_question, of_user = hard.normal(0, 0.7, QUESTIONS), hard.normal(0, 0.7, USERS)
    user, question = (a.ravel() for a in np.meshgrid(np.arange(users), np.arange(QUESTIONS)))
    reference = rng.normal(500, 60, len(user))
    lengths = reference + rng.normal(longer, 100, len(user))
    difference = lengths - reference
    t = np.tanh(difference / difference.std(ddof=1))
    p = 1 / (1 + np.exp(-(theta + slope * t + of_question[question] + of_user[user])))
    wins = (rng.random(len(user)) < p).astype(float)
    return Judgements(wins, lengths, reference, question, user)


def truth(theta: float) -> float:
    hard = np.random.default_rng(99)
    of_question, of_user = hard.normal(0, 0.7, QUESTIONS), hard.normal(0, 0.7, USERS)
    return float(100 * np.mean(1 / (1 + np.exp(-(theta + of_question[:, None] + of_user[None, :])))))


def table(slope: float = 1.5, **more: Judgements) -> dict[str, Judgements]:
    return {
        "verbose": planted(0, 150, slope, 1), "concise": planted(0, -150, slope, 2),
        "padded": planted(0, 200, slope, 3), "good": planted(0.8, 0, slope, 4),
        "good and padded": planted(0.8, 200, slope, 5), **more,
    }  # fmt: skip


def test_padding_earns_nothing_and_worth_stays() -> None:
    methods = table()
    found = length_controlled(methods, draws=100)
    assert not found.reason
    for name, theta in (("padded", 0.0), ("good", 0.8), ("good and padded", 0.8)):
        value, low, high = found.rates[name]
        raw = 100 * methods[name].wins.mean()
        assert low < truth(theta) < high, name
        assert abs(value - truth(theta)) < 8, name
        if "padded" in name:
            assert raw - truth(theta) > 12, "length does inflate the raw rate"
    assert set(found.rates) == {"padded", "good", "good and padded"}
    assert all(0.8 < slope < 2.2 for slope in found.slopes.values())


def test_without_an_effect_of_length_the_rate_is_the_raw_one() -> None:
    methods = table(slope=0.0)
    found = length_controlled(methods, draws=20)
    for name, (value, *_) in found.rates.items():
        assert value == pytest.approx(100 * methods[name].wins.mean(), abs=6), name


def test_sides_swapped_are_the_rates_swapped() -> None:
    methods = table()
    swapped = {
        name: Judgements(1 - j.wins, j.reference_lengths, j.lengths, j.questions, j.users)
        for name, j in methods.items()
    }
    swapped["verbose"], swapped["concise"] = swapped["concise"], swapped["verbose"]
    one, other = length_controlled(methods, draws=5), length_controlled(swapped, draws=5)
    for name, (value, *_) in one.rates.items():
        assert value == pytest.approx(100 - other.rates[name][0], abs=1e-6)


def test_a_method_that_always_wins_stays_finite() -> None:
    always = planted(0, 0, 1.5, 6)
    found = length_controlled(table(always=Judgements(
        np.ones_like(always.wins), always.lengths, always.reference_lengths, always.questions, always.users
    )), draws=20)  # fmt: skip
    value, low, high = found.rates["always"]
    assert 95 < value <= 100 and 95 < low <= high <= 100


@pytest.mark.parametrize(
    ("without", "more", "says"),
    [
        (("verbose",), {}, "no run of verbose"),
        (("verbose", "concise"), {}, "no run of verbose and concise"),
        (("padded", "good"), {}, "needs 2 methods"),
        ((), {"verbose": planted(0, -150, 1, 1)}, "does not follow"),
        ((), {"verbose": planted(0, 150, 1, 1, users=1)}, "one user"),
    ],
)
def test_what_cannot_be_told_is_blank_with_a_reason(
    without: tuple[str, ...], more: dict[str, Judgements], says: str
) -> None:
    methods = {name: j for name, j in table(**more).items() if name not in without}
    found = length_controlled(methods)
    assert says in found.reason
    assert (found.rates, found.slopes) == ({}, {})
