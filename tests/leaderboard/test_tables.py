"""Tables are generated, and any difference from the records is seen."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from fspo_bench.cli import main
from fspo_bench.leaderboard.tables import BEGIN, END, changes
from fspo_bench.packs import builtin_root
from fspo_bench.verbs.common import command
from tests.leaderboard.test_records import Submit, quick_reader, run, submit

__all__ = ["quick_reader", "run", "submit"]


def leaderboard(out: Path, *more: str) -> int:
    return main(["leaderboard", "--out", str(out), *more])


def test_the_committed_tables_are_those_of_the_committed_records(capsys: pytest.CaptureFixture[str]) -> None:
    code = leaderboard(builtin_root() / "leaderboards", "--check")
    assert (code, capsys.readouterr().out) == (0, "")


def test_tables_are_written_and_checked(
    run: Callable[..., Path], submit: Submit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(run("base"), run("few_shot"), run("few_shot", "--seed", "1"))
    out = tmp_path / "board"
    (out / "README.md").write_text(f"# Mine\n\n{BEGIN}\nof yesterday\n{END}\n\nAfter.\n")
    assert leaderboard(out, "--check") == 1
    assert "README.md: differs from the records" in capsys.readouterr().out
    assert leaderboard(out) == 0
    assert leaderboard(out, "--check") == 0
    page = (out / "README.md").read_text()
    assert page.startswith("# Mine\n")
    assert page.endswith("After.\n")
    assert "of yesterday" not in page
    for said in (
        "| few_shot |",
        "judge offline, right on",
        "4 users",
        f"\n```\n{command()}",
        "82.6",
        "* ",
    ):
        assert said in page
    rows = pd.read_csv(out / "leaderboard.csv").set_index("method")
    assert rows.loc["base", "win_rate"] == 50.0
    assert rows.loc["few_shot", "seeds"] == "0 1"
    (tex,) = (out / "latex").glob("*.tex")
    assert "few\\_shot" in tex.read_text()
    assert tex.read_text().count("\\\\") == 3
    (out / "leaderboard.csv").write_text("edited")
    assert leaderboard(out, "--check") == 1


def test_tables_of_a_board_that_is_gone_go(
    run: Callable[..., Path], submit: Submit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(run("base"))
    out = tmp_path / "board"
    assert leaderboard(out) == 0
    gone = out / "latex" / "of-yesterday.tex"
    gone.write_text("")
    assert leaderboard(out, "--check") == 1
    assert "of-yesterday.tex: differs" in capsys.readouterr().out
    assert leaderboard(out) == 0
    assert len(list(gone.parent.iterdir())) == 1
    assert not gone.exists()


def test_a_change_of_the_records_is_told_line_by_line() -> None:
    head = "task,model,preset,judge,method,win_rate,win_rate_low,win_rate_high,rank_best,rank_worst\n"
    kept = "made,m,small,offline,base,50.0,50.0,50.0,2,3\n"
    before = head + kept + "made,m,small,offline,few_shot,60.0,55.0,65.0,1,3\n"
    after = (
        head + kept + "made,m,small,offline,few_shot,62.5,58.0,67.0,1,2\nmade,m,small,offline,fspo,80,,,1,1\n"
    )
    assert changes(before, before) == "No line of any leaderboard changes."
    said = changes(before, after)
    assert "| few_shot | 60.0 [55.0, 65.0] | 62.5 [58.0, 67.0] | 1-3 | 1-2 |" in said
    assert "| fspo | - | 80 | - | 1-1 |" in said
    assert "| base |" not in said


def test_a_readme_without_marks_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert leaderboard(tmp_path) == 2
    assert "lacks the marks" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "mine"
