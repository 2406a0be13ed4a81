"""Runs in other tools' files: AlpacaEval's columns and figures, lm-eval's shapes, a flat table."""

import json
from pathlib import Path

import pandas as pd
import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.evaluate.export import alpaca_rates, export
from fspo_bench.evaluate.metrics import Answered
from fspo_bench.judge.verdicts import Verdict
from tests.made import a_record

ORDERS = {"q1": (0.9, 0.7), "q4": (0.6, 0.1), "q7": (None, 0.9)}


@pytest.fixture
def answered() -> list[Answered]:
    text = 'Mine, "quoted"\nand longer.'

    def verdict(orders: tuple[float | None, ...]) -> Verdict:
        return Verdict(orders, (True, False), "unparsed" if None in orders else "")

    return [
        Answered("u1", 0, question, text, "Base.", None, verdicts={"reference": verdict(orders)})
        for question, orders in ORDERS.items()
    ]


def test_alpaca_evals_rates_by_hand() -> None:
    rates = alpaca_rates([1.8, 1.35, None, 1.5, 2.0])
    assert rates["win_rate"] == pytest.approx(100 * (0.8 + 0.35 + 0.5 + 1) / 4)
    assert (rates["n_wins"], rates["n_wins_base"], rates["n_draws"], rates["n_total"]) == (2, 1, 1, 4)
    assert rates["discrete_win_rate"] == pytest.approx(100 * (1 + 0 + 0.5 + 1) / 4)
    assert rates["standard_error"] == pytest.approx(100 * pd.Series([0.8, 0.35, 0.5, 1]).std() / 2)


def test_alpaca_evals_files(answered: list[Answered], made_task: Path, tmp_path: Path) -> None:
    task = load_task(made_task)
    files = export(a_record(), answered, task, "alpaca-eval", tmp_path / "out")
    assert [f.name for f in files] == [
        "model_outputs.json", "reference_outputs.json", "annotations.json", "leaderboard.csv",
    ]  # fmt: skip
    outputs, references, rows = (json.loads(f.read_text()) for f in files[:3])
    assert [o["output"] for o in outputs] == [a.output for a in answered]
    assert {r["generator"] for r in references} == {"base"}
    assert [r["preference"] for r in rows] == [pytest.approx(1.8), pytest.approx(1.35), None]
    assert rows[0]["instruction"] == task.questions["q1"].prompt
    assert (rows[0]["output_1"], rows[0]["output_2"]) == ("Base.", answered[0].output)
    board = pd.read_csv(files[3], index_col=0)
    assert list(board.index) == ["fspo"]
    assert board.loc["fspo", "n_total"] == 2
    assert board.loc["fspo", "avg_length"] == len(answered[0].output)
    assert {"win_rate", "standard_error", "discrete_win_rate", "mode"} <= set(board.columns)


def test_lm_evals_files(answered: list[Answered], made_task: Path, tmp_path: Path) -> None:
    results, samples = export(
        a_record(spec={"task": {"version": 1}}), answered, load_task(made_task), "lm-eval", tmp_path
    )
    whole = json.loads(results.read_text())
    (name,) = whole["results"]
    assert {"results", "configs", "versions", "n-samples"} <= whole.keys()
    assert 0 <= whole["results"][name]["win_rate,none"] <= 1
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [r["win"] for r in rows] == [1.0, 0.5, None]
    assert rows[0]["filtered_resps"] == [answered[0].output]


def test_the_flat_table_survives_quotes_and_line_breaks(
    answered: list[Answered], made_task: Path, tmp_path: Path
) -> None:
    (file,) = export(a_record(), answered, load_task(made_task), "csv", tmp_path)
    read = pd.read_csv(file)
    assert list(read["output"]) == [a.output for a in answered]
    assert read["p"].isna().tolist() == [False, False, True]
    assert list(read["reason"].fillna("")) == ["", "", "unparsed"]
