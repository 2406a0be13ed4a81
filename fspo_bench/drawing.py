"""How every figure looks, and its files: the same figure gives the same bytes.

matplotlib comes with the extra `plots` and is imported when a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fspo_bench.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches
INK, MUTED, RULE = "#22272e", "#5f6b7a", "#c9d0d8"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.hashsalt": "fspo-bench",
}


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's defaults under ours, whatever the user's own settings are.

    Raises:
        UserError: no matplotlib.
    """
    try:
        from matplotlib import style
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'fspo-bench[plots]'") from None
    with style.context(["default", STYLE]):
        yield


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as `NAME.svg` and `NAME.png`."""
    files = []
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        files.append(folder / f"{name}.{kind}")
        figure.savefig(files[-1], dpi=200, metadata=metadata)
    return files
