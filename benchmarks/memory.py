"""Peak memory of a whole training step, each side in a fresh process of its own.

The peak is what the process grew by over the loaded model. On Linux it is the kernel's VmHWM, reset
first: `ru_maxrss` would start at the peak of the process that started this one.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Row, ratio_text, skipped
from benchmarks.sides import BETA, CHUNK, OurSide, Paired, Settings
from benchmarks.trl_side import MISSING, TrlSide, has_trl

ROOT = Path(__file__).resolve().parents[1]
# Freed tensors go back to the system at once (glibc), so that a peak is what was alive and not what the
# allocator kept: its fragments vary and grow with the number of chunks.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


def rows(settings: Settings, pairs: int) -> list[Row]:
    """Ours against TRL one pair at a time (its smallest) and, if it fits, all pairs at once."""
    name = f"peak memory, {settings.shape.name}, K={pairs}"
    if not has_trl():
        return [skipped(name, MISSING)]
    return [_row(name, settings, pairs, batch) for batch in sorted({1, pairs})]


def _row(name: str, settings: Settings, pairs: int, batch: int) -> Row:
    ours: list[float] = []
    theirs: list[float] = []
    against = f"TRL, {batch} of {pairs} pairs at a time"
    if batch > 1 and (answer := _child(settings, pairs, "need", batch)):
        return Row(name, against, remarks=[answer["refused"]])
    for _ in range(min(settings.rounds, 3)):
        for found, side in ((ours, "ours"), (theirs, "trl")):
            answer = _child(settings, pairs, side, batch)
            if "refused" in answer:
                return Row(name, against, remarks=[answer["refused"]])
            found.append(float(answer["bytes"]))
    row = Row(name, against, ratio_text([b / a for a, b in zip(ours, theirs, strict=True)]), str(len(ours)))
    row.ours, row.theirs = (f"{statistics.median(x) / 1e9:.3g} GB" for x in (ours, theirs))
    row.remarks = ["gradients and AdamW state in both, weights in neither", f"ours {CHUNK} rows at a time"]
    return row


def _child(settings: Settings, pairs: int, side: str, batch: int) -> dict[str, str]:
    command = [
        sys.executable, "-m", "benchmarks.memory", side, settings.shape.name, str(pairs), str(batch),
        str(settings.context or 0), str(settings.answer or 0), settings.device, str(settings.dtype)[6:],
    ]  # fmt: skip
    env = {**os.environ, **EXACT}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        return {"refused": f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}"}
    answer: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measure(settings: Settings, pairs: int, side: str, batch: int) -> dict[str, str]:
    """In the fresh process: bytes that a step takes, or ("need") why it would not fit."""
    from benchmarks.training import adamw_step, at_once_bytes, free_bytes

    if side == "need":
        need, free = at_once_bytes(Paired(settings, pairs)), free_bytes(settings.device)
        return (
            {"refused": f"not run: needs about {need / 1e9:.0f} of {free / 1e9:.0f} GB"}
            if need > free
            else {}
        )
    model, episode = settings.model(), settings.episode(pairs)
    reference = [-1.0] * len(episode.branches)
    made: OurSide | TrlSide = OurSide(model, episode, reference, CHUNK)
    if side == "trl":
        made = TrlSide(model, episode, reference, batch, BETA)
    before = _mark(settings.device)
    adamw_step(made.gradients, model)()
    return {"bytes": str(_peak(settings.device) - before)}


def _mark(device: str) -> int:
    """Bytes in use now; the peak counts from here."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        return _peak(device)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else a step reuses what the set-up freed, and seems to take less
    clear.write_text("5")  # VmHWM := the present size
    return _status("VmRSS")


def _peak(device: str) -> int:
    if device != "cpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _main() -> None:
    import torch

    from benchmarks.shapes import SHAPES

    parser = argparse.ArgumentParser()
    for name in ("side", "shape", "pairs", "batch", "context", "answer", "device", "dtype"):
        parser.add_argument(name)
    a = parser.parse_args()
    settings = Settings(
        SHAPES[a.shape], (int(a.pairs),), 1, int(a.context) or None, int(a.answer) or None, a.device,
        getattr(torch, a.dtype),
    )  # fmt: skip
    print(json.dumps(measure(settings, int(a.pairs), a.side, int(a.batch))))


if __name__ == "__main__":
    _main()
