"""From answers, verdicts and likelihoods to the record's metrics. No model, no cache: cheap to redo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fspo_bench.data.tasks import Preference, Task
from fspo_bench.evaluate.results import GroupMetrics, Metric, Metrics, VerdictCounts
from fspo_bench.evaluate.stats import Crossed, Estimate, clustered_mean, corrected_mean
from fspo_bench.judge.verdicts import Verdict
from fspo_bench.lm.outputs import copied_share

GAIN = (-1.0, 1.0)  # what a difference of rates can be
TRAINED, NEW = "trained users", "new users"  # groups, where a task tests both
REFERENCE, WRONG_USER, OWN = "reference", "wrong_user", "own"
"""What is compared: the output with the reference's; the output behind another user's shots with the
reference's; the output with the one behind another user's shots."""


@dataclass
class Answered:
    """One answer of the policy to a test user's question, beside the reference's."""

    user_id: str
    round: int
    question_id: str
    output: str
    reference: str
    wrong_user_output: str | None
    shots: tuple[Preference, ...] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By what was compared; empty without a judge."""
    note: str = ""
    """What the method wrote on the way to the output (a description of the user)."""

    def win(self, compared: str) -> float | None:
        """Half credit where orders disagree; None without a verdict."""
        return self.verdicts[compared].win if compared in self.verdicts else None


@dataclass(frozen=True)
class Ranked:
    """Whether a held-out pair is ranked as its user ranked it (1, 0, a half for a tie)."""

    user_id: str
    question_id: str
    right: float | None
    """None where the policy gives no likelihoods."""
    wrong_user_right: float | None
    """The same behind another user's shots, where the task has no judge."""
    longest: float
    population: float


def measure(
    task: Task, answered: Sequence[Answered], ranked: Sequence[Ranked], errors: Crossed | None
) -> Metrics:
    """All metrics; `errors` are the judge's, None without one."""
    lengths = [(len(a.output.split()), len(a.reference.split())) for a in answered]

    def gain(ranked: Sequence[Ranked]) -> Metric | None:
        return None if errors else _metric(_gain_in_ranking(ranked))

    metrics = Metrics(
        win_rate=None,
        win_rate_corrected=None,
        personal_gain=gain(ranked),
        own_vs_wrong_user=None,
        preference_accuracy=_right(ranked),
        length_ratio=round(sum(o for o, _ in lengths) / max(1, sum(r for _, r in lengths)), 3),
        copy_rate=round(100 * sum(copied_share(a.output, a.shots) for a in answered) / len(answered), 2),
        longest_answer=Metric.of(_ranking(ranked, [r.longest for r in ranked])),
        population_model=Metric.of(_ranking(ranked, [r.population for r in ranked])),
        groups={
            name: GroupMetrics(
                win_rate=None,
                personal_gain=gain(pairs),
                preference_accuracy=_right(pairs),
            )
            for name, pairs in _groups(task, ranked).items()
        },
    )
    return judged(metrics, task, answered, errors) if errors else metrics


def judged(metrics: Metrics, task: Task, answered: Sequence[Answered], errors: Crossed) -> Metrics:
    """The metrics with what this judge said, in place of what another may have said."""
    wins = [(a, a.win(REFERENCE)) for a in answered]
    of_groups = _groups(task, answered)
    groups = {
        name: group.model_copy(
            update={
                "win_rate": _mean([(a, a.win(REFERENCE)) for a in of_groups[name]]),
                "personal_gain": _gain_in_wins(of_groups[name]),
            }
        )
        for name, group in metrics.groups.items()
    }
    rates = {
        "win_rate": _mean(wins),
        "win_rate_corrected": _corrected(wins, errors),
        "win_rate_consistent": _consistent_only(answered),
        "win_rate_weighted": _mean([(a, a.verdicts[REFERENCE].p) for a in answered]),
        "personal_gain": _gain_in_wins(answered),
        "own_vs_wrong_user": _mean([(a, a.win(OWN)) for a in answered]),
        "verdicts": _counts(answered),
        "groups": groups,
    }
    return metrics.model_copy(update=rates)


Row = TypeVar("Row", Answered, Ranked)
Valued = Sequence[tuple[Answered, float | None]]  # None: no verdict, left out


def _groups(task: Task, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Users that were trained on and users that were not, apart, where a task tests both."""
    seen = {u.user_id for u in task.users.values() if u.split == "seen"}
    parts = {
        name: [r for r in rows if (r.user_id in seen) == inside]
        for name, inside in ((TRAINED, True), (NEW, False))
    }
    return parts if all(parts.values()) else {}


def _known(valued: Valued) -> tuple[list[float], list[str], list[str]]:
    """Values, users and questions of what has a verdict."""
    known = [(a, v) for a, v in valued if v is not None]
    return [v for _, v in known], [a.user_id for a, _ in known], [a.question_id for a, _ in known]


def _mean(valued: Valued, bounds: tuple[float, float] = (0.0, 1.0)) -> Metric | None:
    values, users, questions = _known(valued)
    return Metric.of(clustered_mean(values, users, questions, bounds)) if values else None


def _corrected(valued: Valued, errors: Crossed) -> Metric | None:
    values, users, questions = _known(valued)
    return _metric(corrected_mean(values, users, questions, errors)) if values else None


def _consistent_only(answered: Sequence[Answered]) -> Metric | None:
    """The paper's rule: what depends on the order is dropped. None where there is one order."""
    if all(len(a.verdicts[REFERENCE].orders) == 1 for a in answered):
        return None
    return _mean([(a, a.win(REFERENCE)) for a in answered if a.verdicts[REFERENCE].consistent])


def _gain_in_wins(answered: Sequence[Answered]) -> Metric | None:
    """Wins with the user's own shots less wins with another's, paired."""
    pairs = [(a, a.win(REFERENCE), a.win(WRONG_USER)) for a in answered]
    gains = [(a, None if own is None or wrong is None else own - wrong) for a, own, wrong in pairs]
    return _mean(gains, GAIN)


def _gain_in_ranking(ranked: Sequence[Ranked]) -> Estimate | None:
    """Pairs ranked right with the user's own shots less those with another's, paired."""
    gains = [
        r.right - r.wrong_user_right for r in ranked if r.right is not None and r.wrong_user_right is not None
    ]
    if len(gains) < len(ranked):
        return None
    return clustered_mean(gains, [r.user_id for r in ranked], [r.question_id for r in ranked], GAIN)


def _counts(answered: Sequence[Answered]) -> VerdictCounts:
    """Over everything that was compared."""
    verdicts = [v for a in answered for v in a.verdicts.values()]
    return VerdictCounts(
        asked=len(verdicts),
        known=sum(v.win is not None for v in verdicts),
        order_dependent=sum(v.consistent is False for v in verdicts),
        without=dict(sorted(Counter(v.reason for v in verdicts if v.win is None).items())),
    )


def _right(ranked: Sequence[Ranked]) -> Metric | None:
    known = [r.right for r in ranked if r.right is not None]
    return Metric.of(_ranking(ranked, known)) if known else None


def _ranking(ranked: Sequence[Ranked], right: Sequence[float]) -> Estimate:
    return clustered_mean(right, [r.user_id for r in ranked], [r.question_id for r in ranked])


def _metric(estimate: Estimate | None) -> Metric | None:
    return None if estimate is None else Metric.of(estimate)
