"""The static page: what stands in it, that nothing a stranger wrote becomes HTML, that it asks no network."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.judge_cards import JudgeCard
from fspo_bench.leaderboard.boards import Board, boards
from fspo_bench.leaderboard.page import POLICY, write_page
from fspo_bench.leaderboard.paper import read_table, table_names
from fspo_bench.leaderboard.tables import HEADS, caption
from tests.leaderboard.made_boards import HOSTILE, Made, a_task, entries, hostile
from tests.made import metric


def a_card(**changes: Any) -> JudgeCard:
    shares = {
        "agreement": metric(81.2, 77.0, 85.5),
        "agreement_with_weak": None,
        "longest_answer": metric(49, 40, 58),
    }
    told = {
        "first_position": None,
        "says_first": metric(52.5, 50, 55),
        "says_longer": None,
        "consistent": metric(90, 80, 99),
    }
    fields = {
        "task": "made",
        "task_hash": "",
        "judge": "offline",
        "model": "",
        "key": "k",
        "pairs": 640,
        "without": {},
    }
    return JudgeCard(**{**fields, **shares, **told, "usage": None, **changes})


class Seen(HTMLParser):
    """Elements in order, with their attributes."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of one board with the paper's tables and a card."""
    root = tmp_path_factory.mktemp("page")
    task = a_task(root / "made")
    write(task, boards(entries(task)), root / "site")
    return root / "site"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("attacked")
    task = a_task(root / "made")
    write(task, boards(hostile(task)), root / "site")
    return root / "site"


def write(task: Task, of: list[Board], out: Path, **changes: Any) -> None:
    papers = [read_table(name) for name in table_names()]
    write_page(of, papers, [a_card(**changes)], {"made": task}, out)


def data_of(file: Path) -> Any:
    """What a data file hands over."""
    found = re.fullmatch(r"fspoBench\((\"[^\"]+\"),(.*)\);\n", file.read_text(encoding="ascii"))
    assert found and json.loads(found[1]) == f"{file.parent.name}/{file.stem}"
    return json.loads(found[2])


def test_the_skeleton_is_sound(site: Path) -> None:
    page = Seen(site / "index.html")
    assert page.all("html") == [{"lang": "en"}]
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in page.all("meta")
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    pointed = [href[1:] for href in page.values("href") if href.startswith("#")]
    assert {*pointed, *page.values("aria-controls"), *page.values("aria-labelledby")} <= set(ids)
    assert next(href for href in page.values("href") if href.startswith("#")) == "#boards"  # the skip link
    assert all(image["alt"] for image in page.all("img"))
    assert all(scope in ("col", "row") for scope in (th["scope"] for th in page.all("th")))


def test_a_row_shows_every_figure_and_its_command(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    page = Seen(site / "index.html")
    assert all(f">{head}</button>" in text for head in HEADS)
    assert page.values("aria-sort").count("descending") == 1
    bodies = re.findall(r"<tbody><tr>.*?</tbody>", text.split("Figures")[0])
    assert len(bodies) == 7
    assert bodies[0].count("<td") == len(HEADS) + 1  # and the row of the command, less the method's name
    assert bodies[0].count("fspo-bench run --method fspo --task made") == 2  # two seeds
    assert "Seed 0, run" in bodies[0] and "Seed 1, run" in bodies[0]


def test_caption_figures_and_judge_stand_by_a_board(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    (board,) = boards(entries(load_task(site.parent / "made")))
    assert caption(board) in text
    shown = [image["src"] for image in Seen(site / "index.html").all("img")]
    assert len(shown) == 4 and all((site / src).is_file() for src in shown)
    for told in (
        "measured on 640 labelled pairs",
        "right on two real answers",
        "81.2 [77.0, 85.5]",
        "always the longer answer",
        "verdicts for the answer shown first",
        "same verdict in both orders",
    ):
        assert told in text  # fmt: skip
    assert "Do not rest a claim" not in text


def test_the_papers_tables_come_with_provenance_and_doubt(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    roleplay = read_table("roleplay")
    assert "<td>82.6</td>" in text and "<td>53.3*</td>" in text
    assert "first version, Table 1" in text
    assert all(sentence in text for sentence in roleplay.uncertain if "'" not in sentence)


def test_answers_come_with_user_shots_and_verdicts(site: Path) -> None:
    (folder,) = (site / "data").iterdir()
    users = data_of(folder / "users.js")
    assert {run["label"] for run in users["runs"]} >= {
        "base",
        "fspo, seed 0",
        "fspo, seed 1",
        "fspo (shots=2)",
    }
    first = users["users"][0]
    assert first["description"].startswith("Likes ")
    assert len(first["shots"]) == 4 and set(first["shots"][0]) == {"prompt", "chosen", "rejected"}
    fspo = next(run for run in users["runs"] if run["label"] == "fspo, seed 0")
    row = data_of(folder / f"{fspo['id']}.js")[f"{first['name']}/0"][first["asked"][0]]
    assert row["note"] == "Likes the open air." and row["output"] and row["wrong_user_output"]
    assert set(row["verdicts"]) == {"reference", "wrong_user", "own"}
    assert users["questions"][first["asked"][0]]["reference"]
    assert all(file.stat().st_size < 5_000_000 for file in folder.iterdir())


def test_fewer_shots_are_the_first_ones(tmp_path: Path) -> None:
    task = a_task(tmp_path / "made")
    four, two = (task.test_episodes(n, 3, 8, 0) for n in (4, 2))
    assert [e.shots[:2] for e in four] == [e.shots for e in two]


def test_what_strangers_write_stays_text(attacked: Path) -> None:
    page = Seen(attacked / "index.html")
    assert [script.get("src") for script in page.all("script")] == ["assets/page.js"]
    assert all(image["src"].startswith("plots/") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert any(HOSTILE in text for text in page.texts)
    for file in (attacked / "data").glob("*/*.js"):
        assert not re.search("[<>\u2028]", file.read_text(encoding="ascii"))
    users = data_of(next((attacked / "data").glob("*/users.js")))
    assert users["users"][0]["description"] == HOSTILE


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    return ((str(f.relative_to(folder)), f.read_bytes()) for f in sorted(folder.rglob("*")) if f.is_file())


def test_the_same_boards_give_the_same_folder(site: Path, tmp_path: Path) -> None:
    task = a_task(tmp_path / "made")
    write(task, boards(entries(task)), tmp_path / "site")
    assert dict(files_of(tmp_path / "site")) == dict(files_of(site))


def test_nothing_points_outside(site: Path) -> None:
    page = Seen(site / "index.html")
    for address in [*page.values("src"), *page.values("href")]:
        assert address.startswith("#") or (site / address).is_file(), address
    for asset in ("page.css", "page.js"):
        text = (site / "assets" / asset).read_text(encoding="utf-8")
        assert not re.search(
            r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|innerHTML|eval\(|style=", text
        )


def test_boards_of_one_name_stand_apart(tmp_path: Path) -> None:
    task = a_task(tmp_path / "made")
    (board,) = boards(entries(task, [Made("base", 0, personal=False), Made("fspo")]))
    write(task, [board, replace(board, model="made model")], tmp_path / "one")
    write(task, [board, board], tmp_path / "two")
    assert len(list((tmp_path / "one" / "data").iterdir())) == 2
    assert len(list((tmp_path / "two" / "plots").iterdir())) == 2


@pytest.mark.parametrize("tasks", ["none", "other texts"])
def test_answers_need_the_texts_that_the_runs_met(tmp_path: Path, tasks: str) -> None:
    task = a_task(tmp_path / "made")
    of = boards(entries(task, [Made("base", 0, personal=False), Made("fspo")]))
    at_hand = {} if tasks == "none" else {"made": replace(task, hash="other")}
    write_page(of, [], [], at_hand, tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Not shown: the texts of task made" in text
    assert "fspo-bench judge-card --task made --judge offline" in text  # nor a card
    assert not (tmp_path / "site" / "data").exists()


def test_a_poor_judge_and_no_rates_at_equal_length_are_said(tmp_path: Path) -> None:
    task = a_task(tmp_path / "made")
    of = boards(entries(task, [Made("base", 0, personal=False), Made("fspo")]))
    write(task, of, tmp_path / "site", agreement=metric(55, 45, 65), without={"refused": 3})
    text = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Do not rest a claim on this judge here." in text and "Pairs without a verdict: 3 refused." in text
    assert "No rates at equal length: no run of verbose and concise" in text


def test_without_records_the_page_says_how_to_add_one(tmp_path: Path) -> None:
    write_page([], [], [], {}, tmp_path)
    assert "No records yet: <code>fspo-bench submit RUN</code>" in (tmp_path / "index.html").read_text()


def test_the_page_needs_no_torch() -> None:
    code = "import sys, fspo_bench.leaderboard.page; sys.exit(bool({'torch', 'matplotlib'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
