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
    line = Line(label, total)
    for item in items:
        line.show()
        yield item
        line.advance(show=False)
    line.close()


class Line:
    """The line of a stage whose parts are done in any order."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self._terminal, self._start = sys.stderr.isatty(), time.monotonic()
        self._shown = -1.0 if self._terminal else self._start

    def advance(self, show: bool = True) -> None:
        """One more is done."""
        self.done += 1
        if show:
            self.show()

    def show(self) -> None:
        """Bring the line up to date, not too often."""
        now = time.monotonic()
        if now - self._shown >= (0.2 if self._terminal else 15):
            _line(self.label, self.done, self.total, now - self._start, self._terminal)
            self._shown = now

    def close(self) -> None:
        """The last word; nothing where there was nothing to do."""
        if self.total:
            _line(self.label, self.done, self.total, time.monotonic() - self._start, self._terminal)
            if self._terminal:
                print(file=sys.stderr)


def say(message: str) -> None:
    """One line to stderr."""
    print(message, file=sys.stderr, flush=True)


def _line(label: str, done: int, total: int, seconds: float, terminal: bool) -> None:
    if done == total:
        when = f"in {clock(seconds)}"
    else:
        when = f"ETA {clock(seconds / done * (total - done))}" if 0 < done < total else "ETA ?"
    text = f"{label}: {done}/{total if done <= total else '?'}, {when}"
    print(f"\r{text:<78}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """`3 min 07 s`, `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
