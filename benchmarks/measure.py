"""Two sides in turn, the median of their ratios with an interval, and whether the machine was ours."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.floors import synchronise

ENOUGH = 0.9  # of threads x wall
BUSY = 0.05  # of all cores: what other processes may use of a machine that counts as ours


class Unequal(Exception):
    """The two sides do not compute the same thing, so their times must not be compared."""


@dataclass
class Side:
    """What one side took."""

    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0  # user + system, this process and its children

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Turns:
    """Both sides' rounds; `others` is the share of the machine that other processes used, if known."""

    ours: Side
    theirs: Side
    others: float | None

    def ratios(self) -> list[float]:
        return [b / a for a, b in zip(self.ours.seconds, self.theirs.seconds, strict=True)]

    def share(self, threads: int) -> float:
        """CPU seconds had over threads x wall, both sides together."""
        wall = sum(self.ours.seconds) + sum(self.theirs.seconds)
        return (self.ours.cpu + self.theirs.cpu) / (threads * wall)

    def was_shared(self, threads: int) -> bool:
        """Low use alone may be work that does not fill the threads: it counts when others were busy."""
        return self.share(threads) < ENOUGH and (self.others is None or self.others > BUSY)


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, device: str = "cpu"
) -> Turns:
    """Run ours, theirs, ours, theirs ...; the caller has run each before (the gate has)."""
    turns = Turns(Side(), Side(), None)
    busy, start = _machine_busy(), time.perf_counter()
    own = _own_cpu()
    for _ in range(rounds):
        for side, work in ((turns.ours, ours), (turns.theirs, theirs)):
            _run(side, work, device)
    wall, after = time.perf_counter() - start, _machine_busy()
    if busy is not None and after is not None:
        foreign = after - busy - (_own_cpu() - own)
        turns.others = max(0.0, foreign) / (wall * (os.cpu_count() or 1))
    return turns


def _run(side: Side, work: Callable[[], object], device: str) -> None:
    synchronise(device)
    cpu, start = _own_cpu(), time.perf_counter()
    work()
    synchronise(device)
    side.seconds.append(time.perf_counter() - start)
    side.cpu += _own_cpu() - cpu


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """The best of three runs, or one that takes long: enough to choose between a side's settings."""
    side = Side()
    while len(side.seconds) < 3 and sum(side.seconds) < 3:
        _run(side, work, device)
    return min(side.seconds)


def _own_cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _machine_busy() -> float | None:
    """CPU seconds of everything since boot, or None where the system does not say."""
    try:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting


def median_interval(values: Sequence[float], resamples: int = 5000) -> tuple[float, float, float]:
    """The median and its 95 % bootstrap interval over rounds."""
    import numpy as np

    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(np.asarray(values), (resamples, len(values))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return statistics.median(values), float(low), float(high)
