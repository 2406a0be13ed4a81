"""The paper's tables: the figures on file are the paper's, and a faulty file is named."""

from pathlib import Path

import pytest

from fspo_bench.errors import UserError
from fspo_bench.leaderboard import paper
from fspo_bench.leaderboard.paper import Claim, PaperTable, read_table, table_names
from fspo_bench.packs import find_methods, find_tasks, packs


def test_every_table_is_on_file_and_names_what_exists() -> None:
    assert table_names() == ["ablation", "diversity", "elix", "human", "prism", "reviews", "roleplay"]
    methods, tasks = ({f.name for f in found(packs()[:1])} for found in (find_methods, find_tasks))
    for name in table_names():
        table = read_table(name)
        assert {row.method for row in table.rows if row.method} <= methods
        assert {c.task for c in table.columns.values() if c.task} <= tasks


@pytest.mark.parametrize(
    ("table", "row", "figures"),
    [
        ("roleplay", "fspo", {"roleplay": 82.6}),
        ("roleplay", "oracle", {"roleplay": 90.9}),
        ("elix", "fspo", {"easy": 97.8, "hard": 91.8}),
        ("reviews", "fspo_8", {"trained": 80.4, "interpolated": 73.6}),
        ("human", "base", {"v1": 71.2, "v2": 68.2}),
    ],
)
def test_figures(table: str, row: str, figures: dict[str, float]) -> None:
    assert read_table(table).row(row).paper == figures


def test_the_headline_is_the_mean_of_its_parts() -> None:
    """87%: Reviews (8 shots, both groups), ELIX and Roleplay."""
    reviews = read_table("reviews").row("fspo_8").paper.values()
    elix = read_table("elix").row("fspo").paper.values()
    parts = [sum(reviews) / 2, *elix, *read_table("roleplay").row("fspo").paper.values()]
    assert sum(parts) / 4 == pytest.approx(87.3, abs=0.05)


def test_claims_are_read() -> None:
    claim = Claim.parse("a.x >= b.y")
    assert (claim.better, claim.better_column, claim.worse, claim.worse_column) == ("a", "x", "b", "y")
    assert not claim.strict
    assert Claim.parse("fspo > ipo").strict
    assert Claim.parse("a.x >= b.y beside c").beside == "c"


GOOD = {
    "title": "t", "measured": "m", "provenance": "p", "uncertain": [], "columns": {"c": {"task": "roleplay"}},
    "rows": [{"id": "a", "name": "A", "method": "base"}, {"id": "b", "name": "B", "method": "base"}],
    "claims": ["a > b"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"claims": ["a > zz"]}, "row 'zz' is not there"),
        ({"claims": ["a.d > b.c"]}, "column 'd' is not there"),
        ({"claims": ["a > b beside zz"]}, "row 'zz' is not there"),
        ({"confounded": {"a > zz": "why"}}, "row 'zz' is not there"),
        ({"claims": ["a is better than b"]}, "is no claim"),
        ({"rows": [{"id": "a", "name": "A"}, {"id": "a", "name": "A"}]}, "two rows are called 'a'"),
        ({"rows": [{"id": "a", "name": "A", "paper": {"d": 1}}], "claims": []}, "column 'd' is not there"),
    ],
)
def test_a_faulty_table_is_refused(change: dict[str, object], said: str) -> None:
    assert PaperTable.model_validate(GOOD)
    with pytest.raises(ValueError, match=said):
        PaperTable.model_validate({**GOOD, **change})


def test_a_fault_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "folder", lambda: tmp_path)
    (tmp_path / "odd.yaml").write_text("title: [")
    with pytest.raises(UserError, match=r"odd\.yaml"):
        read_table("odd")
    with pytest.raises(UserError, match="unknown table 'od', did you mean 'odd'"):
        read_table("od")
