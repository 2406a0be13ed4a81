"""Rows on how long a user waits for `--help` and for `import fspo_bench`, each in fresh processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import alternate
from benchmarks.report import Row, skipped, timed

ROUNDS = 4  # times those of the other rows: these are short
BARE = "import argparse; argparse.ArgumentParser().parse_args([])"


def rows(rounds: int) -> list[Row]:
    """Help and import against the bare interpreter, help against other tools that are installed."""
    ours = [_tool("fspo-bench") or sys.executable, "--help"]
    if ours[0] == sys.executable:
        ours = [sys.executable, "-m", "fspo_bench", "--help"]
    import_ours = [sys.executable, "-c", "import fspo_bench"]
    made = [
        _row("fspo-bench --help", "python with argparse", ours, [sys.executable, "-c", BARE], rounds),
        _row("import fspo_bench", "python -c pass", import_ours, [sys.executable, "-c", "pass"], rounds),
    ]
    for tool, flag in (("lm_eval", "-h"), ("trl", "--help")):
        path = _tool(tool)
        if path is None:
            made.append(skipped(f"fspo-bench --help against {tool}", f"{tool} is not installed"))
        else:
            made.append(_row("fspo-bench --help", f"{tool} {flag}", ours, [path, flag], rounds))
    return made


def _row(name: str, against: str, ours: list[str], theirs: list[str], rounds: int) -> Row:
    _run(ours)  # files in the page cache before the clock counts
    _run(theirs)
    turns = alternate(lambda: _run(ours), lambda: _run(theirs), ROUNDS * rounds)
    return timed(name, against, turns, 1, "starts/s", threads=1)


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _tool(name: str) -> str | None:
    """A command beside this interpreter, or anywhere on the path."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
