"""Judges measured on tasks: the cards that are stored, and the table a person reads."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.results import Metric, Usage
from fspo_bench.evaluate.scoring import usage
from fspo_bench.evaluate.stats import Crossed
from fspo_bench.judge.card import WARN_BELOW, comparisons
from fspo_bench.judge.llm import LlmJudge
from fspo_bench.judge.opening import Chosen, card_of, open_judge
from fspo_bench.judge.pairs import some_pairs
from fspo_bench.store import Store

FORMAT = "fspo-bench/judge-card/1"


class JudgeCard(BaseModel):
    """A judge on a task: shares in percent, with 95% intervals clustered by user and by question."""

    model_config = ConfigDict(extra="forbid")

    task: str
    task_hash: str
    judge: str
    model: str
    key: str
    pairs: int
    agreement: Metric | None
    """Right on pairs of two real answers; half credit where the orders disagree."""
    agreement_with_weak: Metric | None
    longest_answer: Metric | None
    first_position: Metric | None
    coin: float = 50.0
    consistent: Metric | None
    """Both orders name the same answer."""
    says_first: Metric | None
    """Verdicts for the answer shown first: 50 without a position bias."""
    says_longer: Metric | None
    """Verdicts for the longer answer: `longest_answer` without a length preference of its own."""
    without: dict[str, int]
    """Pairs without a verdict, by reason."""
    usage: Usage | None
    format: str = FORMAT


def measured(chosen: Chosen, task: Task, pairs: int | None, store: Store) -> JudgeCard:
    """The card of a judge on a task."""
    judge = open_judge(chosen, task, store)
    card = card_of(judge, pairs)
    asks = isinstance(judge, LlmJudge)
    return JudgeCard(
        task=task.name,
        task_hash=task.hash,
        judge=judge.name,
        model=judge.spec.model if isinstance(judge, LlmJudge) else "",
        key=judge.key,
        pairs=card.pairs,
        agreement=_metric(card.views),
        agreement_with_weak=_metric(card.with_weak),
        longest_answer=_metric(card.longest),
        first_position=_metric(card.first),
        consistent=_metric(card.consistent) if asks else None,
        says_first=_metric(card.says_first) if asks else None,
        says_longer=_metric(card.says_longer),
        without=card.reasons,
        usage=usage(judge) if isinstance(judge, LlmJudge) else None,
    )


def forecast(chosen: Chosen, task: Task, pairs: int | None, store: Store) -> str:
    """What measuring would take, in words."""
    judge = open_judge(chosen, task, store)
    if not isinstance(judge, LlmJudge):
        return "the offline judge makes no calls"
    labelled = [p for of_user in some_pairs(task, pairs or judge.spec.card_pairs) for p in of_user]
    return judge.forecast(comparisons(labelled))


def _metric(share: Crossed) -> Metric | None:
    return Metric.of(share.estimate()) if share.total.sum() else None


def card_table(cards: Sequence[JudgeCard]) -> str:
    """A block a card."""
    return "\n\n".join("\n".join(_lines(card)) for card in cards)


def _lines(card: JudgeCard) -> list[str]:
    rows = [
        ("right on two real answers", card.agreement),
        ("right where one is weak", card.agreement_with_weak),
        ("  always the longer answer", card.longest_answer),
        ("  always the first position", card.first_position),
        ("verdicts for the longer answer", card.says_longer),
        ("verdicts for the answer shown first", card.says_first),
        ("same verdict in both orders", card.consistent),
    ]
    asked = f" asking {card.model}" if card.model else ""
    lines = [f"judge {card.judge}{asked} on {card.task}: {card.pairs:,} labelled pairs"]
    lines += [f"  {name:<36} {_shown(metric)}" for name, metric in rows if metric]
    lines.append(f"  {'  a coin':<36} {card.coin:.1f}")
    missing = ", ".join(f"{n} {reason}" for reason, n in card.without.items()) or "none"
    lines.append(f"  {'pairs without a verdict':<36} {missing}")
    if used := card.usage:
        dollars = "no price known" if used.dollars is None else f"${used.dollars:.4f}"
        lines.append(
            f"  {'calls':<36} {used.calls:,}, {used.input_tokens:,} tokens read "
            f"({used.cached_tokens:,} cached), {used.output_tokens:,} written, {dollars}, "
            f"{used.seconds_per_call:.2f} s a call"
        )
    if card.agreement is None or card.agreement.value < WARN_BELOW:
        lines.append(
            f"  warning: right on less than {WARN_BELOW:.0f}%: do not rest a claim on this judge here"
        )
    return lines


def _shown(metric: Metric) -> str:
    interval = f" [{metric.ci95[0]:.1f}, {metric.ci95[1]:.1f}]" if metric.ci95 else ""
    counts = f"{metric.n_users} users, {metric.n_questions} questions, n={metric.n:,}"
    return f"{metric.value:.1f}{interval} ({counts})"
