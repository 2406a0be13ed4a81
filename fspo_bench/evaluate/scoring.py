"""From answers to verdicts, and the files of a run: outputs, verdicts and, last, the record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.metrics import OWN, REFERENCE, WRONG_USER, Answered
from fspo_bench.evaluate.results import JudgeRecord, Metrics, Record, Usage
from fspo_bench.evaluate.stats import Crossed
from fspo_bench.judge.card import WARN_BELOW, Card
from fspo_bench.judge.llm import LlmJudge
from fspo_bench.judge.opening import AnyJudge
from fspo_bench.judge.verdicts import Comparison, Judge, Verdict
from fspo_bench.store import canonical, write_atomic

OUTPUTS, VERDICTS, RESULT = "outputs.jsonl", "verdicts.jsonl", "result.json"


def judge_all(judge: Judge, task: Task, answered: Sequence[Answered]) -> None:
    """Give each answer its verdicts: all comparisons are asked for together, as they share beginnings."""
    asked = comparisons(task, answered)
    for (a, compared, _), verdict in zip(asked, judge.verdicts([c for *_, c in asked]), strict=True):
        a.verdicts[compared] = verdict


def comparisons(task: Task, answered: Sequence[Answered]) -> list[tuple[Answered, str, Comparison]]:
    """(answer, what is compared, the comparison) for all that needs a verdict."""
    return [
        (a, compared, Comparison(a.user_id, task.questions[a.question_id].prompt, *texts))
        for a in answered
        for compared, texts in _compared(a).items()
    ]


def _compared(a: Answered) -> dict[str, tuple[str, str]]:
    """The answer against the reference's; an answer behind another user's shots against both."""
    texts = {REFERENCE: (a.output, a.reference)}
    if a.wrong_user_output is not None:
        texts[WRONG_USER] = (a.wrong_user_output, a.reference)
        texts[OWN] = (a.output, a.wrong_user_output)
    return texts


def judge_record(judge: AnyJudge, card: Card) -> JudgeRecord:
    """The judge and its card, for a record."""
    views, asks = card.views.estimate(), isinstance(judge, LlmJudge)
    return JudgeRecord(
        name=judge.name,
        accuracy=round(views.value, 2),
        ci95=(round(views.low, 2), round(views.high, 2)),
        accuracy_with_weak=_percent(card.with_weak),
        accuracy_all=round(100 * card.errors.rate, 2),
        longest_answer=round(100 * card.longest.rate, 2),
        coin=50.0,
        key=judge.key,
        model=judge.spec.model if isinstance(judge, LlmJudge) else "",
        pairs=card.pairs,
        consistent=_percent(card.consistent) if asks else None,
        says_first=_percent(card.says_first) if asks else None,
        says_longer=_percent(card.says_longer),
        without=card.reasons,
        usage=usage(judge) if isinstance(judge, LlmJudge) else None,
    )


def _percent(share: Crossed) -> float | None:
    return round(100 * share.rate, 2) if share.total.sum() else None


def usage(judge: LlmJudge) -> Usage:
    """What the judge's answers took so far."""
    used = judge.asker.usage
    dollars = used.cost(judge.asker.price)
    return Usage(
        calls=used.calls,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cached_tokens=used.cached_tokens,
        dollars=None if dollars is None else round(dollars, 6),
        seconds_per_call=round(used.seconds / max(1, used.calls), 3),
        served=sorted(used.models),
    )


def notes(task: Task, metrics: Metrics, judge: JudgeRecord | None) -> list[str]:
    """What to know about the numbers."""
    found = [task.note] if task.note else []
    if judge is None:
        found.append("win rates: the offline judge needs a task with traits and judge-only questions")
        if metrics.personal_gain:
            found.append("personal gain: in preference accuracy, as there is no judge")
    elif judge.accuracy < WARN_BELOW:
        found.append(
            f"the judge is right on only {judge.accuracy:.1f}% of held-out labels: read win rates with care"
        )
    if metrics.personal_gain is None:
        found.append("personal gain: the method sees nothing of the user, or there is one test user")
    return found


def write_run(folder: Path, answered: Sequence[Answered], record: Record) -> None:
    """The three files of a run; the record comes last, so that it stands for completeness."""
    outputs = [{k: v for k, v in asdict(a).items() if k not in ("verdicts", "shots")} for a in answered]
    verdicts = [
        {
            "user_id": a.user_id,
            "round": a.round,
            "question_id": a.question_id,
            "compared": compared,
            **asdict(v),
        }
        for a in answered
        for compared, v in a.verdicts.items()
    ]
    write_atomic(folder / OUTPUTS, "".join(canonical(row) + "\n" for row in outputs))
    write_atomic(folder / VERDICTS, "".join(canonical(row) + "\n" for row in verdicts))
    write_atomic(folder / RESULT, record.model_dump_json(indent=2) + "\n")


def read_outputs(folder: Path) -> list[Answered]:
    """The answers of a finished run with their verdicts, without the shots."""
    answered = [Answered(**row) for row in _rows(folder / OUTPUTS)]
    by_place = {(a.user_id, a.round, a.question_id): a for a in answered}
    for row in _rows(folder / VERDICTS):
        if "compared" in row:  # else of a version that kept probabilities alone
            verdict = Verdict(tuple(row["orders"]), tuple(row["a_first"]), row["reason"])
            by_place[row["user_id"], row["round"], row["question_id"]].verdicts[row["compared"]] = verdict
    return answered


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
