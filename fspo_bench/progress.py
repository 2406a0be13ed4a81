"""One progress line a stage on stderr: label, done/total, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, keeping the stage's line up to date (every 15 s when stderr is no terminal)."""
    if total is None:
        assert isinstance(items, Sized)
        total = len(items)
    if not total:
        return
    terminal, start = sys.stderr.isatty(), time.monotonic()
    shown = -1.0 if terminal else start
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - shown >= (0.2 if terminal else 15):
            _line(label, done, total, now - start, terminal)
            shown = now
        yield item
    _line(label, total, total, time.monotonic() - start, terminal)
    if terminal:
        print(file=sys.stderr)


def say(message: str) -> None:
    """One line to stderr."""
    print(message, file=sys.stderr, flush=True)


def _line(label: str, done: int, total: int, seconds: float, terminal: bool) -> None:
    if done == total:
        when = f"in {clock(seconds)}"
    else:
        when = f"ETA {clock(seconds / done * (total - done))}" if done else "ETA ?"
    text = f"{label}: {done}/{total}, {when}"
    print(f"\r{text:<78}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """`3 min 07 s`, `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
