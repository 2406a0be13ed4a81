"""A board's figures: which there are, what stands in them, and that they are the same every time."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fspo_bench.errors import UserError
from fspo_bench.leaderboard.boards import Board, boards
from fspo_bench.leaderboard.plots import plots_of, spread, write_plots
from tests.leaderboard.made_boards import SEVERAL, Made, a_task, entries

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

NAMES = ["win-rates", "preference-accuracy", "length", "shots"]
MANY = [
    *SEVERAL,
    *(Made(f"method_{n}", skill=n / 12) for n in range(12)),
    Made("with_a_very_long_name", changed={"latent_dimension": 64, "temperature": 0.7, "loss": "dpo"}),
]


def a_board(folder: Path, runs: Sequence[Made] = SEVERAL) -> Board:
    (board,) = boards(entries(a_task(folder / "made"), runs))
    return board


def test_each_figure_is_written_as_svg_and_png(tmp_path: Path) -> None:
    board = a_board(tmp_path)
    files = write_plots(board, tmp_path / "plots")
    assert [f.name for f in files] == [f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")]
    assert all(f.read_bytes().startswith((b"<?xml", b"\x89PNG")) for f in files)


def test_the_same_board_gives_the_same_bytes_whatever_the_users_settings(tmp_path: Path) -> None:
    import matplotlib as mpl

    board = a_board(tmp_path)
    first = [f.read_bytes() for f in write_plots(board, tmp_path / "a")]
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": None}):
        again = [f.read_bytes() for f in write_plots(board, tmp_path / "b")]
    assert again == first
    assert not any(b"dc:date" in content for content in first)


def test_a_figure_of_shots_needs_a_method_with_several(tmp_path: Path) -> None:
    board = a_board(
        tmp_path, [Made("base", 0, personal=False), Made("fspo"), Made("few_shot", preset={"shots": 2})]
    )
    assert [p.name for p in plots_of(board)] == NAMES[:3]
    runs = [Made("fspo", changed={"loss": "dpo"}, preset={"shots": n}) for n in (1, 2, 4)]
    *_, shots = plots_of(a_board(tmp_path / "several", [Made("fspo"), *runs]))
    assert shots.name == "shots"
    assert shots.alt.count("shots ") == 3 and "fspo (loss=dpo) 1 shots" in shots.alt


def test_words_tell_what_a_figure_shows(tmp_path: Path) -> None:
    board = a_board(tmp_path)
    line = board.lines[0]
    for plot in plots_of(board)[:3]:
        assert f"{line.label} {line.win_rate.value:.1f} [" in plot.alt


def _texts(figure: "Figure") -> list["Text"]:
    """All that is drawn: ticks past an axis's ends are not."""
    (axes,) = figure.axes
    texts = [*figure.texts, *axes.texts, axes.xaxis.label, axes.yaxis.label]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [t for t in texts if t.get_text().strip()]


@pytest.mark.parametrize("name", NAMES)
def test_no_two_texts_overlap_and_none_leaves_the_figure(tmp_path: Path, name: str) -> None:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from fspo_bench.drawing import style
    from fspo_bench.leaderboard import plots

    board = a_board(tmp_path, MANY)
    plot = next(p for p in plots_of(board) if p.name == name)
    with style():
        figure = Figure(dpi=100)
        plot.draw(figure, board)
        plots._around(figure, plot, board)
        figure.draw_without_rendering()
        boxes = [(t.get_text(), Text.get_window_extent(t)) for t in _texts(figure)]  # less lines to points
    inside = figure.bbox
    for text, box in boxes:
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1, text
        assert inside.y0 <= box.y0 and box.y1 <= inside.y1, text
    for (a, first), (b, second) in combinations(boxes, 2):
        apart = (
            first.x1 <= second.x0 or second.x1 <= first.x0 or first.y1 <= second.y0 or second.y1 <= first.y0
        )
        assert apart, (a, b)


def test_names_are_no_formulas(tmp_path: Path) -> None:
    board = a_board(tmp_path)
    odd = replace(board, lines=[replace(n, label=f"{n.label} $\\frac{{<&>$") for n in board.lines])
    assert len(write_plots(odd, tmp_path / "plots")) == 2 * len(plots_of(odd))


def test_a_board_of_one_user_has_no_intervals(tmp_path: Path) -> None:
    alone = [replace(made, preset={**made.preset, "test_users": 1}) for made in SEVERAL]
    board = a_board(tmp_path, alone)
    assert board.lines[0].win_rate.ci95 is None
    assert len(write_plots(board, tmp_path / "plots")) == 2 * len(NAMES)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30).map(sorted), st.floats(0.001, 0.03))
def test_names_stand_apart_and_in_order(heights: list[float], gap: float) -> None:
    placed = spread(heights, gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(placed))
    assert placed[0] >= gap / 2 - 1e-9 and placed[-1] <= 1 - gap / 2 + 1e-9


def test_names_with_room_stay_where_they_are() -> None:
    assert spread([0.2, 0.5, 0.9], 0.1) == pytest.approx([0.2, 0.5, 0.9])


def test_without_matplotlib_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = a_board(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'fspo-bench\[plots\]'"):
        write_plots(board, tmp_path / "plots")
