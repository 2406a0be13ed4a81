"""What a person reads: the table, the record behind it, and the progress lines."""

import json
import math
import re
from pathlib import Path

import pytest

from fspo_bench.errors import UserError
from fspo_bench.evaluate.report import HEADINGS, table
from fspo_bench.evaluate.results import Metric, read_record
from fspo_bench.evaluate.stats import Estimate
from fspo_bench.progress import clock, track
from tests.made import a_record, metric


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line)


def test_a_row_shows_every_number_with_its_interval() -> None:
    title, head, _, row, blank, *_ = table([a_record()]).splitlines()
    assert title == "made  (model m, preset tiny, seed 3)"
    assert tuple(cells(head)) == HEADINGS
    assert dict(zip(HEADINGS, cells(row), strict=True)) == {
        "method": "fspo",
        "win rate vs base": "61.2 [55.0, 67.5]",
        "corrected": "66.1 [57.0, 75.2]",
        "personal gain": "+4.2 [-1.0, 9.4]",
        "own vs other": "53.0 [49.0, 57.0]",
        "preference acc.": "58.0 [51.0, 65.0]",
        "users": "7",
        "questions": "5",
        "length": "1.23x",
        "copied": "13%",
        "trained": "0",
        "tokens": "0",
        "seconds": "42",
    }
    assert blank == ""


def test_columns_are_aligned_over_rows_of_different_width() -> None:
    lines = table([a_record(), a_record(method="a_method_of_a_long_name")]).splitlines()
    head, rule, *rows = lines[1:5]
    starts = [m.start() for m in re.finditer(r"-+", rule)]
    for line in (head, *rows):
        assert len(cells(line)) == len(HEADINGS)
        assert [m.end() for m in re.finditer(r"\s{2,}", line)] == starts[1:]


def test_what_was_not_measured_is_a_dash_and_users_come_from_what_was() -> None:
    missing = a_record(
        win_rate=None, win_rate_corrected=None, personal_gain=None, own_vs_wrong_user=None, judge=None,
        preference_accuracy=Metric(value=50, ci95=None, n_users=1, n_questions=2, n=2),
        notes=["win rates: no judge"],
    )  # fmt: skip
    text = table([missing])
    assert cells(text.splitlines()[3])[:8] == ["fspo", "-", "-", "-", "-", "50.0", "1", "2"]
    assert "judge offline" not in text
    assert text.splitlines()[-1] == "fspo: win rates: no judge"


def test_a_partial_run_says_so_and_a_negative_gain_keeps_its_sign() -> None:
    row = cells(table([a_record(complete=False, personal_gain=metric(-3.05, -9, 3))]).splitlines()[3])
    assert row[0] == "fspo (partial)"
    assert row[3] == "-3.0 [-9.0, 3.0]"


def test_the_footnote_says_how_far_to_trust_the_judge() -> None:
    text = table([a_record()])
    for part in ("95% intervals clustered by user", "right on 81.2% [77.0, 85.5]", "longest answer 52.5%",
                 "coin 50.0%", "93.5% where one is weak", "84.0% of all"):  # fmt: skip
        assert part in text


def test_each_task_has_a_block_of_its_own() -> None:
    text = table([a_record(), a_record(task="other"), a_record(method="base", notes=["n"])])
    first, second = text.split("\n\n", 1)[0], text[text.index("other  (model") :]
    assert [cells(line)[0] for line in first.splitlines()] == ["made", "method", "-" * 6, "fspo", "base"]
    assert "base: n" not in second
    assert "base: n" in text


def test_a_metric_is_rounded_and_has_no_interval_for_one_user() -> None:
    many = Metric.of(Estimate(61.23456, 55.5555, 66.6666, 7, 5, 35))
    assert (many.value, many.ci95, many.n_users, many.n_questions, many.n) == (
        61.23,
        (55.56, 66.67),
        7,
        5,
        35,
    )
    assert Metric.of(Estimate(50.0, math.nan, math.nan, 1, 5, 5)).ci95 is None


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    record = a_record(win_rate=None, notes=["é"], spec={"a": [1, {"b": None}]})
    tmp_path.joinpath("result.json").write_text(record.model_dump_json(indent=2), encoding="utf-8")
    assert read_record(tmp_path / "result.json") == record


@pytest.mark.parametrize("broken", [{"extra": 1}, {"metrics": {}}, {"seconds": "long"}])
def test_a_record_of_another_shape_is_refused(tmp_path: Path, broken: dict[str, object]) -> None:
    value = {**json.loads(a_record().model_dump_json()), **broken}
    tmp_path.joinpath("result.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"result\.json: not a record of this version"):
        read_record(tmp_path / "result.json")


def test_progress_goes_to_stderr_and_ends_with_all_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(["a", "b", "c"], "answers")) == ["a", "b", "c"]
    assert list(track(iter([1]), "reads", total=1)) == [1]
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"^answers: 3/3, in \d+ s\n", err, re.MULTILINE)
    assert re.search(r"^reads: 1/1, in \d+ s\n", err, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (12, "12 s"), (59.7, "1 min 00 s"), (187, "3 min 07 s"), (3600, "60 min 00 s")],
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
