"""The report's sections: each says in a few sentences what is measured, and then the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.datacard import ideal_observer, longer_wins, population_predictor
from fspo_bench.evaluate.stats import Estimate, clustered_mean
from fspo_bench.lm.embed import cosines
from fspo_bench.synth import figures, words
from fspo_bench.synth.columns import OUTCOMES, VERDICTS, Labels, Preferences, Table, sampled
from fspo_bench.synth.metrics import (
    Disagreement,
    Entropies,
    crowd_observer,
    entropies,
    fall,
    mean_by_question,
    median_by_question,
    near_pairs,
    outcome_share,
    says_first,
    says_longer,
    widened,
    wilson,
)

Unit = Literal["%", "cosine", "nats", ""]
Vectors = NDArray[Any]
Ways = Mapping[str, Mapping[str, Sequence[Vectors]]]
"""Vectors of answers by how they were written and by question, in lots within which they are compared."""
NEAR_ANSWER, NEAR_QUESTION = 0.95, 0.9  # cosines from which two are called near-duplicates
LEAST_COMMON = 10  # pairs that two users must both have labelled to be compared
SHOTS = (1, 2, 4, 8)
OBSERVED, ASKED = 200, 20  # users, and questions of each, that the crowd's observer is asked about
LISTED = 5  # worst cases that are named


@dataclass(frozen=True)
class Measure:
    """A figure, its 95% interval where it is an estimate, and what stands behind it."""

    what: str
    value: float
    unit: Unit = ""
    interval: tuple[float, float] | None = None
    n: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, what: str, e: Estimate, unit: Unit, **n: int) -> Measure:
        if unit == "%":
            e = widened(e)
        interval = None if np.isnan(e.low) else (e.low, e.high)
        return cls(what, e.value, unit, interval, n)


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    says: str
    measures: Sequence[Measure] = ()
    notes: Sequence[str] = ()
    """Cases by name, and what could not be measured and why."""
    plots: Sequence[figures.Plot] = ()


def _by_user(what: str, e: Estimate, pairs: str) -> Measure:
    return Measure.of(what, e, "%", users=e.n_users, questions=e.n_questions, **{pairs: e.n})


# --- texts ---


def similarity(ways: Ways, embedder: str) -> Section:
    """How alike the answers to one question are."""
    measures: list[Measure] = []
    spread: dict[str, Vectors] = {}
    for way, questions in ways.items():
        found = {q: np.concatenate([cosines(lot) for lot in lots]) for q, lots in questions.items()}
        found = {q: values.astype(float) for q, values in found.items() if len(values)}
        if not found:
            continue
        mean, median = mean_by_question(found), median_by_question(found)
        for what, e in (("mean", mean), ("median", median)):
            measures.append(Measure.of(f"{way}: {what}", e, "cosine", questions=e.n_questions, pairs=e.n))
        spread[way] = np.concatenate(list(found.values()))
    says = words.SIMILARITY.format(embedder=embedder)
    if not measures:
        return Section("Similarity of answers", says, notes=["Not measured: no question has two answers."])
    return Section("Similarity of answers", says, measures, plots=[figures.similarity(spread, embedder)])


def duplicates(ways: Ways, prompts: Sequence[str], vectors: Vectors) -> Section:
    """Questions and answers that say the same twice."""
    near = near_pairs(vectors, NEAR_QUESTION)
    twice = len({n for _, *pair in near for n in pair})
    measures = [_of_questions("questions near another", twice, len(prompts))]
    for way, questions in ways.items():
        again = [
            any(len(near_pairs(lot, NEAR_ANSWER)) for lot in lots)
            for lots in questions.values()
            if any(len(lot) > 1 for lot in lots)
        ]
        if again:
            what = f"questions with two answers near each other, {way}"
            measures.append(_of_questions(what, sum(again), len(again)))
    says = words.DUPLICATES.format(NEAR_QUESTION=NEAR_QUESTION, NEAR_ANSWER=NEAR_ANSWER)
    notes = [f"{c:.2f}: “{_short(prompts[i])}” and “{_short(prompts[j])}”" for c, i, j in near[:LISTED]]
    return Section("Near-duplicates", says, measures, notes)


def _of_questions(what: str, found: int, n: int) -> Measure:
    return Measure(what, 100 * found / n, "%", wilson(found, n), {"questions": n})


def _short(text: str, most: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


# --- labels of a synthesis ---


def firmness(labels: Labels | None) -> Section:
    """Whether labels would come out the same if asked for again, before refinement and after."""
    says = words.FIRMNESS
    title = "Firmness of labels"
    if labels is None:
        why = "Not measured: the folder has final labels only, no askings (`.synth/labels.jsonl`)."
        return Section(title, says, notes=[why])
    stages = {"before refinement": labels.before, "after refinement": labels.after}
    if not labels.refinement.any():
        stages = {"labels": labels}
    measured = {stage: entropies(part) for stage, part in stages.items()}
    measures = [m for stage, found in measured.items() if len(found.pair) for m in _entropies(stage, found)]
    if len(measured) > 1 and (fallen := fall(*measured.values())):
        measures.append(_nats("fall of the entropy by refinement, on the same labels", fallen))
    for stage, part in stages.items():
        if len(part.user):
            measures += _positions(stage, part)
    repeated = {stage: found for stage, found in measured.items() if len(found.pair)}
    notes = [] if repeated else ["Entropy not measured: no pair was asked about twice."]
    plots = [figures.entropy(*_user_means(repeated))] if repeated else []
    return Section(title, says, measures, notes, plots)


def _nats(what: str, e: Estimate) -> Measure:
    return Measure.of(what, e, "nats", users=e.n_users, questions=e.n_questions, labels=e.n)


def _entropies(stage: str, found: Entropies) -> list[Measure]:
    return [
        _nats(f"entropy, {stage}", found.mean(found.nats)),
        _nats("a coin, tossed as often", found.mean(found.of_a_coin)),
    ]


def _positions(stage: str, part: Labels) -> list[Measure]:
    both_orders = ((part.ab != VERDICTS[None]) & (part.ba != VERDICTS[None])).any()
    names = {"tie": "ties", "flip": "orders disagree (flips)", "invalid": "no verdict"}
    measures = [
        _by_user(f"{name}, {stage}", outcome_share(part, n), "askings")
        for n, name in ((OUTCOMES.index(outcome), name) for outcome, name in names.items())
        if (part.outcome == n).any() or (n == OUTCOMES.index("flip") and both_orders)
    ]
    if e := says_first(part):
        measures.append(_by_user(f"verdicts for the answer shown first, {stage}", e, "verdicts"))
    if e := says_longer(part):
        measures.append(_by_user(f"settled for the longer answer, {stage}", e, "labels"))
    return measures


def _user_means(found: Mapping[str, Entropies]) -> tuple[dict[str, Vectors], float]:
    means = {}
    for stage, e in found.items():
        _, place = np.unique(e.user, return_inverse=True)
        means[stage] = np.bincount(place, e.nats) / np.bincount(place)
    return means, float(np.mean([e.of_a_coin.mean() for e in found.values()]))


# --- users ---


def differences(task: Task, table: Table) -> Section:
    """On how many pairs users choose differently, and who never do."""
    found = Disagreement.of(table, LEAST_COMMON)
    says = words.DIFFERENCES.format(LEAST_COMMON=LEAST_COMMON)
    title, mean = "Disagreement between users", found.mean()
    if mean is None:
        why = f"Not measured: no two users have labelled the same {LEAST_COMMON} pairs."
        return Section(title, says, notes=[why])
    rates, never = found.rates, found.never()
    compared = found.common[np.triu(np.isfinite(rates))]
    counts = {"users": mean.n_users, "pairs of users": mean.n}
    low, middle, high = np.nanquantile(rates, (0.05, 0.5, 0.95))
    measures = [
        Measure.of("mean over pairs of users", mean, "%", **counts),
        Measure("5th percentile of pairs of users", 100 * low, "%", n=counts),
        Measure("median of pairs of users", 100 * middle, "%", n=counts),
        Measure("95th percentile of pairs of users", 100 * high, "%", n=counts),
        Measure("common pairs of two users, median", float(np.median(compared)), n=counts),
        Measure("pairs of users who never disagree", len(never), n=counts),
        Measure("as many as would if all differed at the mean rate", found.expected_never(), n=counts),
    ]
    own = dict(zip(found.users, np.diag(found.common).tolist(), strict=True))
    notes = [
        f"`{one}` ({own[one]:,} labels) and `{other}` ({own[other]:,}) agree on all {n:,} common pairs"
        for n, one, other in never[:LISTED]
    ]
    shown = sampled([u for u, row in zip(found.users, rates, strict=True) if np.isfinite(row).any()],
                    figures.SHOWN, "matrix")  # fmt: skip
    places = [found.users.index(u) for u in shown]
    caption = f"{len(shown)} of {len(found.users):,} users; median of {np.median(compared):.0f} common pairs."
    plot = figures.disagreement(shown, rates[np.ix_(places, places)], [task.users[u].group for u in shown],
                                caption)  # fmt: skip
    return Section(title, says, measures, notes, [plot])


def length(task: Task, rows: Preferences | None) -> Section:
    """How often the longer answer is the chosen one."""
    says = words.LENGTH
    title = "Length"
    if rows is None:
        return Section(title, says, [_by_user("longer view chosen, test users", longer_wins(task), "labels")])
    differ = rows.longer != 0
    if not differ.any():
        return Section(title, says, notes=["Not measured: the two answers of every pair are equally long."])
    e = clustered_mean(rows.longer[differ] > 0, rows.user[differ], rows.question[differ])
    return Section(title, says, [_by_user("longer answer chosen", e, "labels")])


def observer(task: Task, table: Table) -> Section:
    """What N preferences of a user tell of the others: what a method could at best learn."""
    return _trait_observer(task) if task.structured else _crowd_observer(table)


TITLE = "What shots tell"


def _trait_observer(task: Task) -> Section:
    says = words.IDEAL
    parts = (
        task.users_of("train"),
        task.users_of("test"),
        task.questions_of("train"),
        task.questions_of("test"),
    )
    if not all(parts):
        return Section(TITLE, says, notes=["Not measured: it takes train and test users and questions."])
    curve = {shots: ideal_observer(task, shots) for shots in SHOTS}
    return _told(says, population_predictor(task), curve, "ideal observer")


def _crowd_observer(table: Table) -> Section:
    says = words.CROWD
    without = crowd_observer(table, 0, OBSERVED, ASKED)
    if without is None:
        why = "Not measured: no two users have labelled the same pair, so nobody else speaks to it."
        return Section(TITLE, says, notes=[why])
    found = {shots: crowd_observer(table, shots, OBSERVED, ASKED) for shots in SHOTS}
    curve = {shots: observed.accuracy for shots, observed in found.items() if observed}
    silent = Measure("labels that nobody else spoke to", 100 * without.silent / without.asked, "%",
                     n={"labels": without.asked})  # fmt: skip
    told = _told(says, without.accuracy, curve, "observer of the crowd")
    return Section(told.title, says, [*told.measures, silent], plots=told.plots)


def _told(says: str, population: Estimate, curve: Mapping[int, Estimate], who: str) -> Section:
    measures = [_by_user("without shots", population, "labels")]
    measures += [_by_user(f"{who}, {n} shot{'s' * (n > 1)}", e, "labels") for n, e in curve.items()]
    wide = {n: widened(e) for n, e in curve.items()}
    plots = [figures.observer(wide, population, who)] if curve else []
    return Section(TITLE, says, measures, plots=plots)
