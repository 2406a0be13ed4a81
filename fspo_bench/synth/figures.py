"""The report's figures: what is drawn, and in words for who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fspo_bench.drawing import COLOURS, INK, MARKERS, MUTED, RULE, WIDTH, save, style
from fspo_bench.evaluate.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
HEIGHT = 3.6  # inches
SHOWN = 40  # users in the matrix


@dataclass(frozen=True)
class Plot:
    """A figure before it is drawn."""

    name: str
    title: str
    alt: str
    """What it shows, in words."""
    caption: str
    """How many stand behind it."""
    draw: Callable[[Axes], None]
    height: float = HEIGHT


def write_plot(plot: Plot, folder: Path) -> list[Path]:
    """Draw a figure as `NAME.svg` and `NAME.png`.

    Raises:
        UserError: no matplotlib.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        return save(drawn(plot), folder, plot.name)


def drawn(plot: Plot) -> Figure:
    """The figure: its title above, its axes, what stands behind it below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, plot.height))
    inch = 1 / plot.height
    figure.text(0.1 / WIDTH, 1 - 0.3 * inch, plot.title, size=11, weight="bold")
    figure.text(0.1 / WIDTH, 0.1 * inch, plot.caption, size=7, color=MUTED)
    axes = figure.add_axes((0.7 / WIDTH, 0.75 * inch, 1 - 0.9 / WIDTH, 1 - 1.25 * inch))
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    axes.grid(color=RULE, alpha=0.45, linewidth=0.6)
    plot.draw(axes)
    return figure


def similarity(cosines: Mapping[str, Array], embedder: str) -> Plot:
    """How the cosines of answers to one question spread, a row for each way they were written."""

    def draw(axes: Axes) -> None:
        for row, values in enumerate(cosines.values()):
            low, quarter, median, rest, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
            axes.plot((low, high), (row, row), color=COLOURS[0], linewidth=1.2)
            axes.plot((quarter, rest), (row, row), color=COLOURS[0], linewidth=7, solid_capstyle="butt")
            axes.plot(median, row, "o", color="white", markeredgecolor=INK, markersize=5)
        axes.set_yticks(range(len(cosines)), [f"{n} ({len(v):,} pairs)" for n, v in cosines.items()])
        axes.set_ylim(len(cosines) - 0.4, -0.6)
        axes.set_xlim(min(0.0, *axes.get_xlim()), 1)
        axes.set_xlabel("cosine of two answers to one question")
        box = axes.get_position()
        axes.set_position((0.36, box.y0, 0.6, box.height))

    told = "; ".join(f"{name} {np.median(values):.2f}" for name, values in cosines.items())
    caption = f"Circle: median; bar: the middle half; line: 5th to 95th percentile. Embedder {embedder}."
    return Plot("similarity", "How alike answers to one question are", f"Median cosines: {told}.", caption,
                draw, 1.6 + 0.3 * len(cosines))  # fmt: skip


def entropy(by_user: Mapping[str, Array], most: float) -> Plot:
    """How the mean entropy of a user's labels spreads, before refinement and after."""

    def draw(axes: Axes) -> None:
        bins = np.linspace(0, max(most, *(v.max() for v in by_user.values())), 31)
        for n, (name, values) in enumerate(by_user.items()):
            axes.hist(values, bins.tolist(), color=COLOURS[n], alpha=0.55, label=name)
        axes.axvline(most, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel("mean entropy of a user's labels (nats); dashed: what tosses of a coin would show")
        axes.set_ylabel("users")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)

    told = "; ".join(f"{name} {values.mean():.3f}" for name, values in by_user.items())
    return Plot("entropy", "How firm the labels are", f"Mean over users: {told} nats.",
                f"{max(map(len, by_user.values())):,} users.", draw)  # fmt: skip


def disagreement(users: Sequence[str], rates: Array, groups: Sequence[str], caption: str) -> Plot:
    """The matrix of users, those of a group side by side; white where too few pairs are common."""
    order = sorted(range(len(users)), key=lambda n: groups[n])
    ordered = 100 * rates[np.ix_(order, order)]

    def draw(axes: Axes) -> None:
        axes.grid(visible=False)
        image = axes.imshow(ordered, vmin=0, vmax=100, cmap="cividis")
        names = [name if len(name := users[n]) <= 18 else f"{name[:8]}…{name[-9:]}" for n in order]
        size = min(8, 190 / len(users))
        axes.set_yticks(range(len(users)), names, fontsize=size)
        axes.set_xticks(range(len(users)), names, fontsize=size, rotation=90)
        if len(users) <= 10:
            for row, column in zip(*np.nonzero(np.isfinite(ordered)), strict=True):
                rate = ordered[row, column]
                axes.text(column, row, f"{rate:.0f}", ha="center", va="center", size=7,
                          color="white" if rate < 50 else "black")  # fmt: skip
        axes.figure.colorbar(image, ax=axes, label="pairs on which they choose differently (%)")
        axes.set_position((0.16, 0.2, 0.6, 0.7))

    known = ordered[np.isfinite(ordered)]
    alt = f"Disagreement of {len(users)} users: from {known.min():.0f}% to {known.max():.0f}%."
    return Plot("disagreement", "On how many pairs two users choose differently", alt, caption, draw, 6.2)


def observer(curve: Mapping[int, Estimate], population: Estimate, what: str) -> Plot:
    """Accuracy by number of shots, over what is right without any."""

    def draw(axes: Axes) -> None:
        values = [e.value for e in curve.values()]
        arms = [[max(0.0, e.value - e.low) for e in curve.values()],
                [max(0.0, e.high - e.value) for e in curve.values()]]  # fmt: skip
        axes.errorbar(list(curve), values, yerr=np.nan_to_num(arms), color=COLOURS[0], marker=MARKERS[0],
                      markersize=5, linewidth=1.4, elinewidth=0.9, label=what)  # fmt: skip
        axes.axhline(population.value, color=COLOURS[1], linewidth=1.2, label="without shots")
        if np.isfinite(population.low):
            axes.axhspan(population.low, population.high, color=COLOURS[1], alpha=0.15, linewidth=0)
        axes.axhline(50, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="coin")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(curve), [str(n) for n in curve])
        axes.minorticks_off()
        axes.set_xlabel("shots: preferences of the user that the observer sees")
        axes.set_ylabel("labels predicted (%)")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)

    told = ", ".join(f"{shots} shot{'s' * (shots > 1)} {e.value:.1f}%" for shots, e in curve.items())
    alt = f"Labels predicted: without shots {population.value:.1f}%, {told}."
    last = list(curve.values())[-1]
    caption = (
        f"{last.n_users:,} users, {last.n_questions:,} questions, {last.n:,} labels at the most shots; "
        "95% intervals by user."
    )
    return Plot("observer", "What a user's shots tell", alt, caption, draw)
