"""A run in the files of other tools: AlpacaEval, lm-eval, a flat table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.metrics import REFERENCE, Answered
from fspo_bench.evaluate.results import Metric, Record
from fspo_bench.store import write_atomic

FORMATS = ("alpaca-eval", "lm-eval", "csv")


def export(record: Record, answered: Sequence[Answered], task: Task, to: str, out: Path) -> list[Path]:
    """Write a run's files into a folder; returns them."""
    if to == "alpaca-eval":
        return _alpaca_eval(record, answered, task, out)
    if to == "lm-eval":
        return _lm_eval(record, answered, task, out)
    return [_write(out / "verdicts.csv", _flat(record, answered, task).to_csv(index=False))]


def annotated(record: Record, answered: Sequence[Answered], task: Task) -> list[dict[str, Any]]:
    """AlpacaEval's rows: output_1 is the reference's; preference 1 + P(the method's is better) or null."""
    rows = []
    for a in answered:
        p = a.verdicts[REFERENCE].p if REFERENCE in a.verdicts else None
        rows.append({
            "instruction": task.questions[a.question_id].prompt,
            "output_1": a.reference, "generator_1": "base",
            "output_2": a.output, "generator_2": record.label,
            "dataset": record.task, "annotator": record.judge.name if record.judge else "none",
            "preference": None if p is None else 1 + p,
            "user_id": a.user_id, "question_id": a.question_id, "round": a.round,
        })  # fmt: skip
    return rows


def alpaca_rates(preferences: Sequence[float | None]) -> dict[str, float]:
    """AlpacaEval's own figures of preferences: unclustered, for its files alone.

    Source: `alpaca_eval.metrics.get_winrate`. A draw is 1.5; the discrete rate rounds to 0, a half or 1.
    """
    p = pd.Series([x - 1 for x in preferences if x is not None], dtype=float)
    discrete = p.where(p == 0.5, p.round())
    return {
        "win_rate": 100 * float(p.mean()),
        "standard_error": 100 * float(p.std()) / len(p) ** 0.5,
        "n_wins": int((p > 0.5).sum()),
        "n_wins_base": int((p < 0.5).sum()),
        "n_draws": int((p == 0.5).sum()),
        "n_total": len(p),
        "discrete_win_rate": 100 * float(discrete.mean()),
    }


def _alpaca_eval(record: Record, answered: Sequence[Answered], task: Task, out: Path) -> list[Path]:
    rows = annotated(record, answered, task)
    shared = ("instruction", "dataset", "user_id", "question_id", "round")
    outputs, references = (
        [
            {**{k: r[k] for k in shared}, "output": r[f"output_{n}"], "generator": r[f"generator_{n}"]}
            for r in rows
        ]
        for n in (2, 1)
    )
    rates = alpaca_rates([r["preference"] for r in rows])
    length = int(sum(len(a.output) for a in answered) / len(answered))
    leaderboard = pd.DataFrame([{**rates, "mode": "community", "avg_length": length}], index=[record.label])
    return [
        _write(out / "model_outputs.json", _json(outputs)),
        _write(out / "reference_outputs.json", _json(references)),
        _write(out / "annotations.json", _json(rows)),
        _write(out / "leaderboard.csv", leaderboard.to_csv()),
    ]


def _lm_eval(record: Record, answered: Sequence[Answered], task: Task, out: Path) -> list[Path]:
    """`results_ID.json` and `samples_TASK_ID.jsonl`, as lm-eval's `--log_samples` leaves them."""
    name = f"fspo_{record.task}"
    metrics = {k: getattr(record.metrics, k) for k in ("win_rate", "personal_gain", "preference_accuracy")}
    rates: dict[str, Any] = {"alias": name}
    for metric, value in metrics.items():
        if isinstance(value, Metric):
            rates[f"{metric},none"] = value.value / 100
            rates[f"{metric}_ci95,none"] = None if value.ci95 is None else [x / 100 for x in value.ci95]
    whole = {
        "results": {name: rates},
        "configs": {name: {"task": name, "metadata": {"version": record.spec["task"]["version"]}}},
        "versions": {name: record.spec["task"]["version"]},
        "n-samples": {name: {"original": len(answered), "effective": len(answered)}},
        "config": {"model": record.model, "model_args": record.command},
    }
    prompts = {q.question_id: q.prompt for q in task.questions.values()}
    samples = [
        {
            "doc_id": n,
            "doc": {"user_id": a.user_id, "question_id": a.question_id, "prompt": prompts[a.question_id]},
            "target": a.reference,
            "filtered_resps": [a.output],
            "win": a.win(REFERENCE),
        }
        for n, a in enumerate(answered)
    ]  # fmt: skip
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    return [
        _write(out / f"results_{record.id}.json", _json(whole)),
        _write(out / f"samples_{name}_{record.id}.jsonl", lines),
    ]


def _flat(record: Record, answered: Sequence[Answered], task: Task) -> pd.DataFrame:
    """A row a comparison."""
    rows: list[dict[str, Any]] = [
        {
            "task": record.task, "method": record.label, "seed": record.seed, "user_id": a.user_id,
            "round": a.round, "question_id": a.question_id, "prompt": task.questions[a.question_id].prompt,
            "output": a.output, "reference": a.reference, "compared": compared, "p": v.p, "win": v.win,
            "consistent": v.consistent, "reason": v.reason,
        }
        for a in answered for compared, v in a.verdicts.items()
    ]  # fmt: skip
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write(file: Path, text: str) -> Path:
    write_atomic(file, text)
    return file
