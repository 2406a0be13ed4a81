"""A table of the paper run again on micro texts: rows beside the paper's, claims tested, exit codes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fspo_bench.cli import main
from fspo_bench.leaderboard import paper

QUICK = ["--preset", "tiny", "--set", "test_users=8", "--set", "test_questions=2", "--set", "test_pairs=2",
         "--set", "sft_contexts=2", "--set", "contexts=2"]  # fmt: skip
TABLE = """
title: A table
measured: win rate
provenance: made
uncertain: []
columns:
  trained: {task: reviews, group: trained users}
  new: {task: reviews, group: new users}
rows:
  - {id: base, name: Base, method: base, paper: {trained: 50.0, new: 50.0}}
  - {id: oracle, name: Oracle, method: oracle, paper: {trained: 90.9}, secondary: true}
  - {id: nobody, name: Not ours, paper: {new: 12.5}}
claims: [CLAIM, oracle.trained >= base.new]
confounded: {ASIDE}
"""
Reproduce = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reproduce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Reproduce:
    """Exit code, stdout and stderr."""
    tables = tmp_path / "tables"
    tables.mkdir()
    monkeypatch.setattr(paper, "folder", lambda: tables)
    good, never = TABLE.replace("CLAIM", "oracle >= base"), "base > oracle"
    (tables / "good.yaml").write_text(good.replace("{ASIDE}", "{}"))
    (tables / "bad.yaml").write_text(TABLE.replace("CLAIM", never).replace("{ASIDE}", "{}"))
    (tables / "aside.yaml").write_text(good.replace("{ASIDE}", f"{{{never}: other users}}"))

    def reproduce(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["reproduce", *argv, *QUICK, "--output-path", str(tmp_path / "runs")])
        return code, *capsys.readouterr()

    return reproduce


def test_ours_stand_beside_the_papers_and_claims_are_tested(reproduce: Reproduce, tmp_path: Path) -> None:
    code, out, _ = reproduce("good", "--seeds", "0,1")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == (
        "A table: a mechanism check in a made-up language of a few hundred words, not a measurement"
    )
    rows = {line.split("  ")[0]: line for line in lines[2:5]}
    assert rows["Base"].count("50.0 [50.0, 50.0]") == 2
    assert "90.9*" in rows["Oracle"]
    assert rows["Not ours"].split() == ["Not", "ours", "-", "-", "12.5", "-"]
    assert "seeds: 2" in out
    assert sum(line.startswith(("holds", "does not", "cannot")) for line in lines) == 3
    assert len(list((tmp_path / "runs" / "reviews").glob("*/*/result.json"))) == 4


def test_strict_is_for_claims_that_do_not_hold(reproduce: Reproduce) -> None:
    assert reproduce("bad")[0] == 0
    assert reproduce("bad", "--strict")[0] == 1


def test_a_confounded_claim_is_put_to_the_test_and_counts_for_nothing(reproduce: Reproduce) -> None:
    code, out, _ = reproduce("aside", "--strict")
    assert code == 0
    told = [line for line in out.splitlines() if line.endswith("counts for nothing: other users")]
    assert len(told) == 2
    assert not any(line.startswith("holds") for line in told)


def test_groups_beside_what_each_can_reach(reproduce: Reproduce, tmp_path: Path) -> None:
    """Each group less its own oracle: against the oracle itself no group has anything to show."""
    (tmp_path / "tables" / "beside.yaml").write_text(
        TABLE.replace("CLAIM", "oracle.trained >= oracle.new beside oracle").replace("{ASIDE}", "{}")
    )
    _, out, _ = reproduce("beside", "--json")
    claim, plain = json.loads(out)[0]["claims"]
    assert (claim["outcome"], claim["difference"]["value"]) == ("holds", 0)
    assert plain["difference"]["value"] != 0


def test_a_finished_table_is_told_from_the_runs(reproduce: Reproduce) -> None:
    _, first, _ = reproduce("good", "--json")
    _, again, err = reproduce("good", "--json")
    assert again == first
    assert err.count("already complete") == 2
    (table,) = json.loads(first)
    assert {(row["row"], row["column"]) for row in table["rows"]} == {
        (row, column) for row in ("base", "oracle") for column in ("trained", "new")
    }
    assert {claim["outcome"] for claim in table["claims"]} <= {"holds", "does not hold", "cannot be told"}


def test_the_plan_is_told_and_nothing_run(reproduce: Reproduce, tmp_path: Path) -> None:
    code, out, _ = reproduce("good", "--dry-run")
    assert code == 0
    assert "reviews / oracle" in out
    assert not (tmp_path / "runs").exists()


def test_what_no_run_can_make_is_said(reproduce: Reproduce) -> None:
    code, _, err = reproduce("goood")
    assert code == 2
    assert "unknown table 'goood', did you mean 'good'" in err


def test_likeness_of_answers(reproduce: Reproduce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cool answers are more alike than warm ones; intervals are by question."""
    from fspo_bench.leaderboard import diversity

    def embed(texts: Sequence[str], store: Any) -> Any:
        rows = np.zeros((len(texts), 1000))  # the same text or another: cosine 1 or 0
        rows[np.arange(len(texts)), [sum(map(ord, t)) % 1000 for t in texts]] = 1
        return rows

    monkeypatch.setattr(diversity, "sentence_embeddings", embed)
    (tmp_path / "tables" / "alike.yaml").write_text(
        TABLE.replace("method: base", "answers: cool").replace("method: oracle", "answers: warm")
        .replace(", group: trained users", "").replace(", group: new users", "")
        .replace("trained", "mean").replace("new", "median")
        .replace("[CLAIM, oracle.mean >= base.median]", "[base.mean > oracle.mean]")
        .replace("{ASIDE}", "{}")
    )  # fmt: skip
    code, out, _ = reproduce("alike")
    assert code == 0
    assert "12 questions" in out
    assert "95% intervals by question" in out
    (claim,) = (line for line in out.splitlines() if "base.mean > oracle.mean" in line)
    assert "on mean: +" in claim
