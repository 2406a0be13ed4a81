"""From answers, verdicts and likelihoods to the record's metrics. No model, no cache: cheap to redo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fspo_bench.data.tasks import Preference, Task
from fspo_bench.evaluate.results import GroupMetrics, Metric, Metrics
from fspo_bench.evaluate.stats import Estimate, JudgeErrors, clustered_mean, corrected_mean
from fspo_bench.lm.outputs import copied_share

GAIN = (-1.0, 1.0)  # what a difference of rates can be


@dataclass
class Answered:
    """One answer of the policy to a test user's question, beside the reference's."""

    user_id: str
    round: int
    question_id: str
    output: str
    reference: str
    wrong_user_output: str | None
    shots: tuple[Preference, ...]
    p: float | None = None
    wrong_user_p: float | None = None
    own_p: float | None = None
    """That the user prefers the answer behind its own shots to the one behind another's."""
    note: str = ""
    """What the method wrote on the way to the output (a description of the user)."""


@dataclass(frozen=True)
class Ranked:
    """Whether a held-out pair is ranked as its user ranked it (1, 0, a half for a tie)."""

    user_id: str
    question_id: str
    right: float
    wrong_user_right: float | None
    """The same behind another user's shots, where the task has no judge."""
    longest: float
    population: float


def measure(
    task: Task, answered: Sequence[Answered], ranked: Sequence[Ranked], judge: JudgeErrors | None
) -> Metrics:
    """All metrics; win rates need a judge."""
    win = corrected = gain = own = None
    users, questions = [a.user_id for a in answered], [a.question_id for a in answered]
    if judge:
        wins = _wins([a.p for a in answered])
        win = clustered_mean(wins, users, questions)
        corrected = corrected_mean(wins, users, questions, judge)
        gain = _gain_in_wins(answered)
        if gain:
            own = clustered_mean(_wins([a.own_p for a in answered]), users, questions)
    else:
        gain = _gain_in_ranking(ranked)
    lengths = [(len(a.output.split()), len(a.reference.split())) for a in answered]
    return Metrics(
        win_rate=_metric(win),
        win_rate_corrected=_metric(corrected),
        personal_gain=_metric(gain),
        own_vs_wrong_user=_metric(own),
        preference_accuracy=Metric.of(_ranking(ranked, [r.right for r in ranked])),
        length_ratio=round(sum(o for o, _ in lengths) / max(1, sum(r for _, r in lengths)), 3),
        copy_rate=round(100 * sum(copied_share(a.output, a.shots) for a in answered) / len(answered), 2),
        longest_answer=Metric.of(_ranking(ranked, [r.longest for r in ranked])),
        population_model=Metric.of(_ranking(ranked, [r.population for r in ranked])),
        groups=_groups(task, answered, ranked, judge),
    )


def _groups(
    task: Task, answered: Sequence[Answered], ranked: Sequence[Ranked], judge: JudgeErrors | None
) -> dict[str, GroupMetrics]:
    """Users that were trained on and users that were not, apart, where a task tests both."""
    seen = {u.user_id for u in task.users.values() if u.split == "seen"}
    if len({a.user_id in seen for a in answered}) < 2:
        return {}
    groups = {}
    for name, inside in (("trained users", True), ("new users", False)):
        own = [a for a in answered if (a.user_id in seen) == inside]
        pairs = [r for r in ranked if (r.user_id in seen) == inside]
        win = clustered_mean(
            _wins([a.p for a in own]), [a.user_id for a in own], [a.question_id for a in own]
        )
        groups[name] = GroupMetrics(
            win_rate=_metric(win if judge else None),
            personal_gain=_metric(_gain_in_wins(own) if judge else _gain_in_ranking(pairs)),
            preference_accuracy=Metric.of(_ranking(pairs, [r.right for r in pairs])),
        )
    return groups


def _wins(probabilities: Sequence[float | None]) -> list[float]:
    return [half((p or 0.0) - 0.5) for p in probabilities]


def half(difference: float) -> float:
    """1 for a positive difference, 0 for a negative one, a half for none."""
    return 0.5 if difference == 0 else float(difference > 0)


def _gain_in_wins(answered: Sequence[Answered]) -> Estimate | None:
    """Wins with the user's own shots less wins with another's, paired."""
    if any(a.wrong_user_p is None for a in answered):
        return None
    own, wrong = _wins([a.p for a in answered]), _wins([a.wrong_user_p for a in answered])
    users, questions = [a.user_id for a in answered], [a.question_id for a in answered]
    return clustered_mean([w - x for w, x in zip(own, wrong, strict=True)], users, questions, GAIN)


def _gain_in_ranking(ranked: Sequence[Ranked]) -> Estimate | None:
    """Pairs ranked right with the user's own shots less those with another's, paired."""
    gains = [r.right - r.wrong_user_right for r in ranked if r.wrong_user_right is not None]
    if len(gains) < len(ranked):
        return None
    return clustered_mean(gains, [r.user_id for r in ranked], [r.question_id for r in ranked], GAIN)


def _ranking(ranked: Sequence[Ranked], right: Sequence[float]) -> Estimate:
    return clustered_mean(right, [r.user_id for r in ranked], [r.question_id for r in ranked])


def _metric(estimate: Estimate | None) -> Metric | None:
    return None if estimate is None else Metric.of(estimate)
