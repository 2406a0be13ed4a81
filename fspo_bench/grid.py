"""Many runs by one command: the plan with its likely time, and one run after the other.

Runs share through the store whatever they have in common: the reference's answers, log-probabilities,
trained stages, verdicts. A run that fails stops no other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fspo_bench.errors import Stopped, UserError
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.evaluate.scoring import RESULT
from fspo_bench.progress import clock, say
from fspo_bench.run import Request, forecast, located, run
from fspo_bench.store import Store


@dataclass(frozen=True)
class Planned:
    """A run to come, and what is known of it."""

    request: Request
    done: bool
    seconds: float | None
    """What a finished run of this task, method, model and budget took; None if there is none."""

    @property
    def name(self) -> str:
        r = self.request
        return f"{r.task.name} / {r.method.label}" + (f" / seed {r.seed}" if r.seed else "")


def planned(requests: Sequence[Request], store: Store) -> list[Planned]:
    """Look at what is there."""
    known = _seconds(sorted({r.runs for r in requests}))
    return [
        Planned(
            r, (located(r, store).folder / RESULT).is_file(), known.get(_kind(r.task.name, r.method.label, r))
        )
        for r in requests
    ]


def _kind(task: str, label: str, of: Request) -> tuple[object, ...]:
    return task, label, of.preset.model, of.preset.name, of.preset.shots


def _seconds(folders: Sequence[Path]) -> dict[tuple[object, ...], float]:
    found: dict[tuple[object, ...], float] = {}
    for folder in folders:
        for file in sorted(folder.glob(f"*/*/*/{RESULT}")):
            r = read_record(file)
            found[r.task, r.label, r.model, r.preset, r.spec["preset"]["shots"]] = r.seconds
    return found


def plan_table(cells: Sequence[Planned], store: Store) -> str:
    """A line a run, then the time that all of them take."""
    width = max(len(c.name) for c in cells)
    lines = []
    for c in cells:
        state = "done" if c.done else "time not known" if c.seconds is None else f"about {clock(c.seconds)}"
        lines.append(f"{c.name:<{width}}  {state:<16}  {forecast(c.request, store)}".rstrip())
    left = [c for c in cells if not c.done]
    known = [c.seconds for c in left if c.seconds is not None]
    lines.append(f"{len(cells)} runs, {len(cells) - len(left)} done, {len(left)} to go: " + (
        f"about {clock(sum(known))} for {len(known)} of them, as runs like them took" if known else
        "no finished run tells how long they take" if left else "nothing to do"
    ))  # fmt: skip
    return "\n".join(lines)


def run_all(requests: Sequence[Request], store: Store) -> list[Record]:
    """Every run's record, in turn.

    Raises:
        UserError: the only run cannot be made.
        Stopped: some of several runs failed; the others are finished.
    """
    if len(requests) == 1:
        return [run(requests[0], store)]
    cells, records, failed = planned(requests, store), [], []
    began, worked = time.monotonic(), 0
    for place, cell in enumerate(cells):
        left = [c for c in cells[place:] if not c.done]
        say(f"[{place + 1}/{len(cells)}] {cell.name}{_eta(left, worked, time.monotonic() - began)}")
        try:
            records.append(run(cell.request, store))
        except Exception as error:  # a method of a pack may raise anything
            say(f"{cell.name}: {reason(error)}")
            failed.append(f"{cell.name} ({reason(error)})")
        worked += not cell.done
    complain(failed, len(cells))
    return records


def complain(failed: Sequence[str], runs: int) -> None:
    """Say at the end which of several runs failed.

    Raises:
        UserError: all of them.
        Stopped: some of them.
    """
    if len(failed) == runs:
        raise UserError(f"no run could be made: {failed[0]}")
    if failed:
        raise Stopped(f"{len(failed)} of {runs} runs failed, the others are finished: {'; '.join(failed)}")


def reason(error: BaseException) -> str:
    """Why a run failed."""
    return str(error) if isinstance(error, UserError | Stopped) else f"{type(error).__name__}: {error}"


def _eta(left: Sequence[Planned], worked: int, spent: float) -> str:
    """The time of the runs left: as runs like them took, others as the ones before on average."""
    if not left:
        return ""
    mean = spent / worked if worked else None
    times = [mean if c.seconds is None else c.seconds for c in left]
    if None in times:
        return f", {len(left)} to go"
    return f", {len(left)} to go, ETA {clock(sum(t for t in times if t is not None))}"
