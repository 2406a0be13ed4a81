"""A leaderboard's figures, as SVG and PNG. The same board gives the same bytes.

matplotlib comes with the extra `plots` and is imported when a figure is drawn.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fspo_bench.drawing import COLOURS, INK, MARKERS, MUTED, RULE, WIDTH, save, style
from fspo_bench.evaluate.length_control import CONTROLS
from fspo_bench.evaluate.results import Metric
from fspo_bench.leaderboard.boards import Board, Line
from fspo_bench.leaderboard.tables import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOP, BOTTOM = 0.75, 0.68  # inches: title above; axis and caption below
LETTERS, LETTER = 34, 0.068  # of a method's name in one line, and inches for each
ROW = 0.3  # inches a method takes


@dataclass(frozen=True)
class Plot:
    """A figure before it is drawn."""

    name: str
    title: str
    alt: str
    """What it shows, in words."""
    draw: Callable[[Figure, Board], None]


def plots_of(board: Board) -> list[Plot]:
    """The figures that a board has; one of shots only where a method was run with several numbers."""
    rates = "; ".join(f"{line.label} {shown(line.win_rate)}" for line in board.lines)
    found = [
        Plot("win-rates", "Win rate against base", f"Win rates with 95% intervals: {rates}.", _forest),
        Plot(
            "preference-accuracy", "Win rate and preference accuracy",
            _in_words(board, "preference accuracy", lambda line: shown(line.preference_accuracy)),
            _against_accuracy,
        ),
        Plot(
            "length", "Win rate and length of answers",
            _in_words(board, "length beside base", lambda line: f"{line.length_ratio:.2f}x"), _against_length,
        ),
    ]  # fmt: skip
    if curves := _by_shots(board):
        told = "; ".join(
            f"{name} " + ", ".join(f"{shots} shots {shown(rate)}" for shots, rate in curve)
            for name, curve in curves.items()
        )
        found.append(Plot("shots", "Win rate by number of shots", f"Win rates by shots: {told}.", _shots))
    return found


def write_plots(board: Board, folder: Path) -> list[Path]:
    """Draw a board's figures as `NAME.svg` and `NAME.png`.

    Raises:
        UserError: no matplotlib.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with style():
        from matplotlib.figure import Figure

        for plot in plots_of(board):
            figure = Figure(figsize=(WIDTH, 3.6))
            plot.draw(figure, board)
            _around(figure, plot, board)
            files += save(figure, folder, plot.name)
    return files


def _in_words(board: Board, what: str, value: Callable[[Line], str]) -> str:
    told = (f"{line.label} {shown(line.win_rate)}, {value(line)}" for line in board.lines)
    return f"Win rate, then {what}: {'; '.join(told)}."


def _around(figure: Figure, plot: Plot, board: Board) -> None:
    """Title and board above, and below them how many stand behind the figure."""
    inch = 1 / figure.get_figheight()
    m, left = board.lines[0].win_rate, 0.1 / WIDTH
    figure.text(left, 1 - 0.28 * inch, plot.title, size=11, weight="bold")
    figure.text(left, 1 - 0.48 * inch, textwrap.shorten(board.title, 110, placeholder="…"), color=MUTED)
    caption = (
        f"{m.n_users} users, {m.n_questions} questions, {m.n:,} answers a line and seed; "
        f"95% intervals by user; judge {board.judge.name}."
    )
    if plot.name != "shots" and any(map(_is_control, board.lines)):
        caption += " Hollow: base and controls."
    figure.text(left, 0.1 * inch, caption, size=7, color=MUTED)


def _axes(figure: Figure, height: float, left: float, right: float) -> Axes:
    """Axes of a height, in inches, between margins; the figure grows or shrinks to it."""
    whole = height + TOP + BOTTOM
    figure.set_figheight(whole)
    axes = figure.add_axes((left / WIDTH, BOTTOM / whole, 1 - (left + right) / WIDTH, height / whole))
    axes.grid(color=RULE, alpha=0.45, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return axes


def _is_control(line: Line) -> bool:
    name = line.runs[0].record.method
    return name in ("base", *CONTROLS) or name.startswith(("wrong_user", "shuffled_labels"))


def _dot(line: Line, strength: float = 1.0) -> dict[str, Any]:
    """A method's mark is filled, a control's is hollow: they are told apart without colour too."""
    colour = MUTED if _is_control(line) else COLOURS[0]
    face = "white" if _is_control(line) else colour
    return {"fmt": "o", "color": colour, "markerfacecolor": face, "markersize": 5, "elinewidth": 1.2,
            "ecolor": (colour, strength)}  # fmt: skip


def _arms(*metrics: Metric) -> list[list[float]]:
    """How far each interval reaches below, and how far above."""
    ends = [(m.value, *(m.ci95 or (m.value, m.value))) for m in metrics]
    return [
        [max(0.0, value - low) for value, low, _ in ends],
        [max(0.0, high - value) for value, _, high in ends],
    ]


def _range(metrics: Sequence[Metric]) -> tuple[float, float]:
    """What shows every interval, and 50."""
    ends = [end for m in metrics for end in (m.value, *(m.ci95 or ()))]
    return max(-1.5, min(50.0, *ends) - 3), min(101.5, max(50.0, *ends) + 3)


def _room(board: Board) -> float:
    """Inches for the longest name."""
    return 0.2 + LETTER * min(LETTERS, max(len(line.label) for line in board.lines))


def _name(label: str) -> str:
    """A label in at most two lines."""
    return "\n".join(textwrap.wrap(label, LETTERS, max_lines=2, placeholder="…"))


def _forest(figure: Figure, board: Board) -> None:
    axes = _axes(figure, ROW * len(board.lines), _room(board), 1.4)
    for place, line in enumerate(board.lines):
        axes.errorbar(line.win_rate.value, place, xerr=_arms(line.win_rate), **_dot(line))
        axes.annotate(
            shown(line.win_rate), (1.02, place), xycoords=axes.get_yaxis_transform(), va="center",
            annotation_clip=False,
        )  # fmt: skip
    axes.axvline(50, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_yticks(range(len(board.lines)), [_name(line.label) for line in board.lines])
    axes.set_ylim(len(board.lines) - 0.5, -0.5)
    axes.set_xlim(*_range([line.win_rate for line in board.lines]))
    axes.set_xlabel("win rate against base (%)")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _against_accuracy(figure: Figure, board: Board) -> None:
    axes = _scattered(figure, board, [line.preference_accuracy.value for line in board.lines])
    for line in board.lines:
        m = line.preference_accuracy
        axes.errorbar(m.value, line.win_rate.value, xerr=_arms(m), **_dot(line, 0.4), zorder=2)
    axes.set_xlim(*_range([line.preference_accuracy for line in board.lines]))
    axes.axvline(50, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlabel("preference accuracy (%)")


def _against_length(figure: Figure, board: Board) -> None:
    axes = _scattered(figure, board, [line.length_ratio for line in board.lines])
    ratios = [line.length_ratio for line in board.lines]
    ticks = (0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4, 8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{t:g}x" for t in ticks])
    axes.set_xlim(min(*ratios, 1) / 1.15, max(*ratios, 1) * 1.15)
    axes.minorticks_off()
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlabel("length beside base's answers")


def _scattered(figure: Figure, board: Board, across: Sequence[float]) -> Axes:
    """Win rates over something else, with the methods' names beside."""
    axes = _axes(figure, max(2.6, ROW * len(board.lines)), 0.6, _room(board) + 0.3)
    for x, line in zip(across, board.lines, strict=True):
        axes.errorbar(x, line.win_rate.value, yerr=_arms(line.win_rate), **_dot(line, 0.4), zorder=2)
    _win_rate_axis(axes, [line.win_rate for line in board.lines])
    points = [(x, line.win_rate.value) for x, line in zip(across, board.lines, strict=True)]
    _names_beside(axes, points, [line.label for line in board.lines])
    return axes


def _win_rate_axis(axes: Axes, rates: Sequence[Metric]) -> None:
    axes.axhline(50, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(*_range(rates))
    axes.set_ylabel("win rate against base (%)")


def _names_beside(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Each point's name in the right margin, as near its height as the others let it, and a line to it."""
    low, high = axes.get_ylim()
    texts = [_name(name) for name in names]
    lines = max(text.count("\n") + 1 for text in texts)
    # axes.figure is typed as a figure or a part of one; only the whole has a height, and ours is whole
    inches = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    gap = min(0.135 * lines + 0.03, inches / len(points)) / inches
    order = sorted(range(len(points)), key=lambda n: (points[n][1], n))
    heights = spread([(points[n][1] - low) / (high - low) for n in order], gap)
    for n, height in zip(order, heights, strict=True):
        axes.annotate(
            texts[n], points[n], (1.06, height), textcoords="axes fraction", va="center",
            annotation_clip=False, linespacing=1.0, zorder=3,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "linestyle": (0, (1, 2.5)),
                        "shrinkB": 4, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The ascending heights nearest to these (least squares) that lie in 0..1, a gap from each other."""
    from sklearn.isotonic import isotonic_regression

    steps = [gap * (n + 0.5) for n in range(len(heights))]
    room = max(0.0, 1 - gap * len(heights))
    free = [h - step for h, step in zip(heights, steps, strict=True)]
    return [float(x) + s for x, s in zip(isotonic_regression(free, y_min=0, y_max=room), steps, strict=True)]


def _by_shots(board: Board) -> dict[str, list[tuple[int, Metric]]]:
    """Win rates of lines that differ in shots alone, by what else their labels say."""
    curves: dict[str, list[tuple[int, Metric]]] = defaultdict(list)
    for line in board.lines:
        shots = line.runs[0].record.spec["preset"]["shots"]
        curves[_without_shots(line.label)].append((shots, line.win_rate))
    return {
        name: sorted(curve, key=lambda point: point[0])
        for name, curve in sorted(curves.items())
        if len(curve) > 1
    }


def _without_shots(label: str) -> str:
    name, _, settings = label.removesuffix(")").partition(" (")
    kept = [s for s in settings.split(", ") if s and not s.startswith("shots=")]
    return f"{name} ({', '.join(kept)})" if kept else name


def _shots(figure: Figure, board: Board) -> None:
    curves = _by_shots(board)
    axes = _axes(figure, max(2.6, ROW * len(curves)), 0.6, _room(board) + 0.3)
    axes.set_xscale("log", base=2)
    for place, curve in enumerate(curves.values()):
        nudge = 2 ** (0.05 * (place - (len(curves) - 1) / 2))  # intervals at equal shots stand apart
        rates = [rate for _, rate in curve]
        axes.errorbar(
            [shots * nudge for shots, _ in curve], [rate.value for rate in rates], yerr=_arms(*rates),
            color=COLOURS[place % len(COLOURS)], marker=MARKERS[place % len(MARKERS)],
            markersize=5, linewidth=1.4, elinewidth=0.9,
        )  # fmt: skip
    _win_rate_axis(axes, [rate for curve in curves.values() for _, rate in curve])
    ticks = sorted({shots for curve in curves.values() for shots, _ in curve})
    axes.set_xticks(ticks, [str(shots) for shots in ticks])
    axes.minorticks_off()
    axes.set_xlabel("shots: preferences of the user that the method sees")
    last = [(shots, rate.value) for *_, (shots, rate) in curves.values()]
    _names_beside(axes, last, list(curves))
