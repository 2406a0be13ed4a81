"""Win rates at equal length: what is left of a method's wins once its answers' length is taken out.

AlpacaEval's idea (arXiv 2404.04475), fitted offline and jointly over all methods of a table:

    P(m's answer beats the reference's) = sigmoid(theta_m + phi_m t + delta_q + delta_u)
    t = tanh((length of the answer - length of the reference's) / sd_m)

theta_m is the method, phi_m its slope on length, delta_q and delta_u how hard the question and the user are
for every method. Lengths are characters, sd_m their standard deviation within the method, not centred: equal
lengths are t = 0. The controls `verbose` and `concise` are the reference's own answers made longer and
shorter: they share every slope and have no theta, so what length alone does pulls phi_m, with weight 0.1
each, as AlpacaEval's hidden baselines do. The controlled rate is the mean of the fitted probabilities at
t = 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONTROLS = ("verbose", "concise")
CONTROL_WEIGHT = 0.1  # lambda / 2 of AlpacaEval
RIDGE_ITEM = 1.0  # precision of delta_q and delta_u: a standard normal prior
RIDGE_METHOD = 1e-3  # keeps theta and phi finite where a method always wins
LEAST_METHODS = 2
LEAST_SPREAD = 0.1  # by which the controls' mean t must differ for a slope to be seen
DRAWS = 200
STEPS = 50


@dataclass(frozen=True)
class Judgements:
    """One method's answers: outcome (1, 0, a half), lengths in characters, places of question and user."""

    wins: Array
    lengths: Array
    reference_lengths: Array
    questions: NDArray[np.int64]
    users: NDArray[np.int64]

    @property
    def t(self) -> Array:
        """Length against the reference's, on AlpacaEval's scale."""
        longer = self.lengths - self.reference_lengths
        spread = longer.std(ddof=1) if len(longer) > 1 else 0.0
        return np.tanh(longer / spread) if spread > 0 else np.zeros_like(longer)


@dataclass(frozen=True)
class Controlled:
    """Rates at equal length in percent with 95% intervals by bootstrap over users, or why there are none."""

    rates: dict[str, tuple[float, float, float]]
    """By method: value, low, high."""
    slopes: dict[str, float]
    """phi_m."""
    reason: str = ""


def length_controlled(methods: Mapping[str, Judgements], seed: int = 0, draws: int = DRAWS) -> Controlled:
    """Fit all methods of a table together; `verbose` and `concise` must be among them."""
    if reason := _unidentified(methods):
        return Controlled({}, {}, reason)
    design = _Design.of(methods)
    users = design.n_users
    fitted = design.fit(np.ones(users))
    rng = np.random.default_rng(seed)
    times = rng.multinomial(users, np.full(users, 1 / users), size=draws).astype(float)
    resampled = np.array([design.rates(design.fit(t, fitted), t) for t in times])
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    rates = design.rates(fitted, np.ones(users))
    return Controlled(
        {m: (100 * rates[n], 100 * low[n], 100 * high[n]) for n, m in enumerate(design.names)},
        {m: float(fitted[design.slope(n)]) for n, m in enumerate(design.names)},
    )


def _unidentified(methods: Mapping[str, Judgements]) -> str:
    """Why the rates cannot be told, or nothing."""
    if missing := [c for c in CONTROLS if c not in methods]:
        return f"no run of {' and '.join(missing)}, whose lengths alone differ from the reference's"
    if len(methods) - len(CONTROLS) < LEAST_METHODS:
        return f"needs {LEAST_METHODS} methods beside the controls"
    verbose, concise = (float(methods[c].t.mean()) for c in CONTROLS)
    if verbose - concise < LEAST_SPREAD:
        return "verbose answers are no longer than concise ones: the model does not follow, no slope is seen"
    if len(np.unique(methods[CONTROLS[0]].users)) < 2:
        return "one user: no interval"
    return ""


@dataclass(frozen=True)
class _Design:
    """Rows of all methods, and for each method the controls' rows behind its slope."""

    names: list[str]
    method: NDArray[np.int64]
    own: Array  # 1 for a method's rows, 0 for a control's
    t: Array
    question: NDArray[np.int64]
    user: NDArray[np.int64]
    y: Array
    weight: Array

    @classmethod
    def of(cls, methods: Mapping[str, Judgements]) -> _Design:
        names = [m for m in methods if m not in CONTROLS]
        parts = [(n, 1.0, methods[m], 1.0) for n, m in enumerate(names)]
        parts += [(n, 0.0, methods[c], CONTROL_WEIGHT) for n in range(len(names)) for c in CONTROLS]
        sizes = [len(j.wins) for *_, j, _ in parts]

        def spread(values: Sequence[float]) -> Array:
            return np.repeat(np.asarray(values, dtype=float), sizes)

        return cls(
            names,
            spread([n for n, *_ in parts]).astype(int),
            spread([own for _, own, *_ in parts]),
            np.concatenate([j.t for *_, j, _ in parts]),
            np.concatenate([j.questions for *_, j, _ in parts]),
            np.concatenate([j.users for *_, j, _ in parts]),
            np.concatenate([j.wins for *_, j, _ in parts]),
            spread([weight for *_, weight in parts]),
        )

    @property
    def n_users(self) -> int:
        return int(self.user.max()) + 1

    def slope(self, method: int) -> int:
        """The place of phi_m among the coefficients: theta, phi, delta_q, delta_u."""
        return len(self.names) + method

    @cached_property
    def _columns(self) -> Array:
        methods, questions = len(self.names), int(self.question.max()) + 1
        x = np.zeros((len(self.y), 2 * methods + questions + self.n_users))
        rows = np.arange(len(self.y))
        x[rows, self.method] = self.own
        x[rows, methods + self.method] = self.t
        x[rows, 2 * methods + self.question] = 1
        x[rows, 2 * methods + questions + self.user] = 1
        return x

    def fit(self, times: Array, start: Array | None = None) -> Array:
        """Newton's steps to the penalised maximum of the likelihood, each user counted `times`."""
        x, weight = self._columns, self.weight * times[self.user]
        ridge = np.full(x.shape[1], RIDGE_ITEM)
        ridge[: 2 * len(self.names)] = RIDGE_METHOD
        beta = np.zeros(x.shape[1]) if start is None else start.copy()
        for _ in range(STEPS):
            p = 1 / (1 + np.exp(-x @ beta))
            gradient = x.T @ (weight * (self.y - p)) - ridge * beta
            curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(ridge)
            step = np.linalg.solve(curvature, gradient)
            beta += step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))  # no leap past a flat tail
            if np.abs(step).max() < 1e-8:
                break
        return beta

    def rates(self, beta: Array, times: Array) -> Array:
        """Each method's mean fitted probability at t = 0, over its rows."""
        methods, questions = len(self.names), int(self.question.max()) + 1
        hard = beta[2 * methods + self.question] + beta[2 * methods + questions + self.user]
        p = 1 / (1 + np.exp(-(beta[self.method] + hard)))
        weight = self.own * times[self.user]
        sums = np.bincount(self.method, weight * p, methods)
        return np.asarray(sums / np.bincount(self.method, weight, methods))
