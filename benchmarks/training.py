"""Rows on the training step and the reference pass, against TRL's DPOTrainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import torch

from benchmarks.floors import forward_flops, training_flops
from benchmarks.measure import Unequal, alternate, seconds_of
from benchmarks.report import Row, aborted, skipped, timed
from benchmarks.shapes import tree
from benchmarks.sides import CHUNK, OurSide, Paired, Settings
from benchmarks.trl_side import MISSING, TrlSide, has_trl, saved_bytes
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.train import reference_logprobs
from fspo_bench.store import Store

AT_ONCE_SLACK, TILES = 1.25, 3 << 30  # the comparator's head works in tiles of up to half a GB, several alive
LARGEST_CHUNK = 24  # the package's default


def train(settings: Settings, pairs: int) -> list[Row]:
    """A whole step: forward, backward, AdamW; each side at its own faster setting."""
    name = f"training step, {settings.shape.name}, K={pairs}"
    if not has_trl():
        return [skipped(name, MISSING)]
    paired = Paired(settings, pairs)
    try:
        ours, trl, remarks = _faster(paired, pairs, OurSide.gradients, TrlSide.gradients)
        equal = paired.gate(ours, trl)
    except Unequal as error:
        return [aborted(name, str(error))]
    before = settings.rates(paired.episode)
    our_step, trl_step = (
        adamw_step(side.gradients, model)
        for side, model in ((ours, paired.our_model), (trl, paired.trl_model))
    )
    turns = alternate(our_step, trl_step, settings.rounds, settings.device)
    after = settings.rates(paired.episode)
    flops = training_flops(settings.shape.geometry, len(paired.episode.prefix), tree(paired.episode))
    floor = flops / max(before.flops, after.flops)
    details = [equal, f"{flops / 1e9:,.4g} GFLOP", f"before {before.text()}", f"after {after.text()}"]
    threads = _threads(settings)
    return [timed(name, "TRL DPOTrainer", turns, pairs, "pairs/s", threads, floor, remarks, details)]


def reference(settings: Settings, pairs: int) -> list[Row]:
    """Reference log-probs: cold (computed and stored) and warm (read from the store)."""
    name = f"reference pass, {settings.shape.name}, K={pairs}"
    if not has_trl():
        return [skipped(name, MISSING)]
    paired = Paired(settings, pairs)
    try:
        ours, trl, remarks = _faster(paired, pairs, OurSide.logprobs, TrlSide.logprobs)
        equal = paired.gate_logprobs(ours, trl)
    except Unequal as error:
        return [aborted(name, str(error))]
    rates = settings.rates(paired.episode)
    flops = forward_flops(settings.shape.geometry, len(paired.episode.prefix), tree(paired.episode))
    policy = cast(Policy, SimpleNamespace(model=paired.our_model, key="benchmark"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:

        def ours_from(store: Store) -> list[float]:
            return reference_logprobs(policy, paired.episode, ours.chunk, store)

        def cold() -> list[float]:
            return ours_from(Store(Path(tempfile.mkdtemp(dir=folder))))

        warm_store = Store(Path(folder) / "warm")
        ours_from(warm_store)
        threads, kept = (
            _threads(settings),
            ["TRL, too, keeps its numbers while data set and model stay the same"],
        )
        for kind, work, floor, told in (
            ("cold", cold, flops / rates.flops, remarks),
            ("warm store", lambda: ours_from(warm_store), None, kept),
        ):
            turns = alternate(work, trl.logprobs, settings.rounds, settings.device)
            against = "TRL's reference forward"
            rows.append(
                timed(f"{name}, {kind}", against, turns, pairs, "pairs/s", threads, floor, told, [equal])
            )
    return rows


def adamw_step(gradients: Callable[[], float], model: torch.nn.Module) -> Callable[[], None]:
    """A whole training step; the optimizer's state is made here, so that no round pays for it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()

    def step() -> None:
        gradients()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _faster(
    paired: Paired, pairs: int, ours_does: Callable[[OurSide], Any], trl_does: Callable[[TrlSide], Any]
) -> tuple[OurSide, TrlSide, list[str]]:
    """Both sides at the faster of their settings: rows in memory (ours), pairs at a time (TRL)."""
    remarks = []
    batches = [1]
    if pairs > 1:
        need, free = at_once_bytes(paired), free_bytes(paired.settings.device)
        if need < free:
            batches.append(pairs)
        else:
            remarks.append(
                f"TRL with {pairs} at once needs {need / 1e9:.0f} GB of {free / 1e9:.0f} GB: not tried"
            )
    chunks = sorted({CHUNK, min(2 * pairs, LARGEST_CHUNK)})
    ours = _fastest([paired.ours(c) for c in chunks], ours_does, paired)
    trl = _fastest([paired.trl(b) for b in batches], trl_does, paired)
    remarks.append(f"ours {ours.chunk} rows at a time, TRL {trl.batch} pairs at a time (the faster for each)")
    return ours, trl, remarks


def _fastest(sides: list[Any], does: Callable[[Any], Any], paired: Paired) -> Any:
    if len(sides) == 1:
        return sides[0]
    times = [seconds_of(partial(does, side), paired.settings.device) for side in sides]
    for model in (paired.our_model, paired.trl_model):
        model.zero_grad()
    return sides[times.index(min(times))]


def at_once_bytes(paired: Paired) -> float:
    """About what TRL needs for all pairs in one batch, from what one pair keeps for its backward."""
    one = type(paired.episode)(paired.episode.prefix, paired.episode.branches[:2])
    side = TrlSide(paired.trl_model, one, paired.reference[:2], 1, 0.1)
    pairs = len(paired.episode.branches) // 2
    return AT_ONCE_SLACK * pairs * saved_bytes(side) + TILES


def free_bytes(device: str) -> int:
    """Memory that a step may still take."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _threads(settings: Settings) -> int | None:
    return torch.get_num_threads() if settings.device == "cpu" else None
