"""Judges measured on tasks: the cards that are stored, and the table a person reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.results import Metric, Usage
from fspo_bench.evaluate.scoring import usage
from fspo_bench.evaluate.stats import Crossed
from fspo_bench.judge.card import WARN_BELOW
from fspo_bench.judge.llm import LlmJudge
from fspo_bench.judge.opening import Chosen, card_of, forecast_of, open_judge
from fspo_bench.store import Store, write_atomic

FORMAT = "fspo-bench/judge-card/1"
BEGIN, END = "<!-- cards: begin -->", "<!-- cards: end -->"


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
    return forecast_of(open_judge(chosen, task, store), pairs=pairs)


def _metric(share: Crossed) -> Metric | None:
    return Metric.of(share.estimate()) if share.total.sum() else None


def write_card(card: JudgeCard, out: Path) -> Path:
    """Keep a card as `TASK/JUDGE.json`, or `TASK/JUDGE-MODEL.json` where the judge asks a model."""
    name = "-".join(part.rpartition("/")[2] for part in (card.judge, card.model) if part)
    file = out / card.task / f"{name}.json"
    write_atomic(file, card.model_dump_json(indent=2) + "\n")
    return file


def card_table(cards: Sequence[JudgeCard]) -> str:
    """A block a card."""
    return "\n\n".join("\n".join(_lines(card)) for card in cards)


def measures(card: JudgeCard) -> list[tuple[str, Metric]]:
    """What was measured of a judge, each share with its name; an indented one is what another is held to."""
    rows = [
        ("right on two real answers", card.agreement),
        ("right where one is weak", card.agreement_with_weak),
        ("  always the longer answer", card.longest_answer),
        ("  always the first position", card.first_position),
        ("verdicts for the longer answer", card.says_longer),
        ("verdicts for the answer shown first", card.says_first),
        ("same verdict in both orders", card.consistent),
    ]
    return [(name, metric) for name, metric in rows if metric]


def _lines(card: JudgeCard) -> list[str]:
    asked = f" asking {card.model}" if card.model else ""
    lines = [f"judge {card.judge}{asked} on {card.task}: {card.pairs:,} labelled pairs"]
    lines += [f"  {name:<36} {_shown(metric)}" for name, metric in measures(card)]
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


def read_cards(folder: Path) -> list[JudgeCard]:
    """Every card that `--out` kept there."""
    return [
        JudgeCard.model_validate_json(f.read_text(encoding="utf-8")) for f in sorted(folder.glob("*/*.json"))
    ]


def markdown(cards: Sequence[JudgeCard]) -> str:
    """The table of docs/judges.md."""
    heads = (
        "task", "judge", "right", "right, one weak", "longest answer", "says longer", "says first",
        "both orders agree", "no verdict", "pairs", "seconds a call",
    )  # fmt: skip
    rows = [heads, ("---",) * len(heads)]
    for c in cards:
        shares = (c.agreement, c.agreement_with_weak, c.longest_answer, c.says_longer, c.says_first)
        name = f"{c.judge}, {c.model}" if c.model else c.judge
        seconds = f"{c.usage.seconds_per_call:.2f}" if c.usage else "-"
        known = (*map(_cell, shares), _cell(c.consistent), str(sum(c.without.values())), f"{c.pairs:,}")
        rows.append((c.task, name, *known, seconds))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    return f"{metric.value:.1f}" + (f" [{metric.ci95[0]:.1f}, {metric.ci95[1]:.1f}]" if metric.ci95 else "")


if __name__ == "__main__":  # `make judge-cards`: the table of the cards that are kept
    kept, page = Path(sys.argv[1]), Path(sys.argv[2])
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    write_atomic(page, f"{before}{BEGIN}\n{markdown(read_cards(kept))}\n{END}{rest.split(END)[1]}")
