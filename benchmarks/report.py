"""Rows of the comparison as a Markdown table, and its place in a document."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.measure import Turns, median_interval

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
COLUMNS = ("row", "against", "ratio (95 %)", "n", "ours", "theirs", "of floor", "CPU had", "remarks")
PACKAGES = ("fspo-bench", "torch", "transformers", "trl", "accelerate", "lm_eval")


@dataclass
class Row:
    """One line; `ratio` above 1 means that ours is faster or smaller."""

    name: str
    against: str
    ratio: str = ""
    n: str = ""
    ours: str = ""
    theirs: str = ""
    floor: str = ""
    share: str = ""
    remarks: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)  # told below the table
    failed: bool = False

    def cells(self) -> tuple[str, ...]:
        remarks = "; ".join(self.remarks)
        return (self.name, self.against, self.ratio, self.n, self.ours, self.theirs, self.floor, self.share,
                remarks)  # fmt: skip


def skipped(name: str, why: str) -> Row:
    """A row that could not be measured here."""
    return Row(name, "", remarks=[f"skipped: {why}"])


def aborted(name: str, why: str) -> Row:
    """A row whose two sides are not equal, so nothing was timed."""
    return Row(name, "", remarks=[f"ABORTED, nothing timed: {why}"], failed=True)


def ratio_text(ratios: list[float]) -> str:
    """Median and bootstrap interval."""
    middle, low, high = median_interval(ratios)
    return f"**{middle:.3g}x** [{low:.3g}, {high:.3g}]"


def timed(
    name: str, against: str, turns: Turns, per_run: float, unit: str, threads: int | None,
    floor: float | None = None, remarks: Sequence[str] = (), details: Sequence[str] = (),
) -> Row:  # fmt: skip
    """A row of seconds; `per_run` units of work are done in each run, `floor` is the least it can take.

    `threads` is None where CPU use says nothing about a shared machine (a GPU does the work).
    """
    row = Row(name, against, ratio_text(turns.ratios()), str(len(turns.ours.seconds)))
    row.ours, row.theirs = (
        f"{side.median:.4g} s, {per_run / side.median:.4g} {unit}" for side in (turns.ours, turns.theirs)
    )
    row.remarks, row.details = list(remarks), list(details)
    if floor is not None:
        row.floor = f"{100 * floor / turns.ours.median:.0f} %"
    if threads is not None:
        row.share = f"{turns.share(threads):.2f}"
        if turns.others is not None:
            row.share += f" (others {turns.others:.2f})"
        if turns.was_shared(threads):
            row.remarks.insert(0, "**shared machine**")
    return row


def table(rows: list[Row]) -> str:
    """The rows as Markdown, then what else was noted on them."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    lines += ["", *(f"- {row.name}: {'; '.join(row.details)}" for row in rows if row.details)]
    return "\n".join(lines).rstrip()


def header(command: str, device: str, dtype: str) -> str:
    """When, where and with what the rows were measured."""
    import torch

    known = []
    for package in PACKAGES:
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    where = f"{cpu_model()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if device != "cpu":
        where += f", {torch.cuda.get_device_name()}"
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return (
        f"`{command}`, {today}, {where}, {dtype}; Python {platform.python_version()}, {', '.join(known)}.\n"
        "Ratios are theirs / ours, the median over n rounds in turn with a 95 % bootstrap interval."
    )


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def write(file: Path, text: str) -> None:
    """Put `text` between the file's marks, or make the file of it if there is none yet."""
    if not file.exists():
        file.write_text(text + "\n", encoding="utf-8")
        return
    before, found, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        sys.exit(f"compare: {file} has no '{BEGIN}' ... '{END}' to write between")
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
