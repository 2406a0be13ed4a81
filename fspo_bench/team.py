"""Several processes that train as one: the first does the command's work, the others train along.

`torchrun` and `accelerate launch` start a command several times over. The first process runs it as if it
were alone; the others wait in `follow` for what it calls on them to do. So nothing but the training loop
knows that there are several, and only the first prints, decodes, judges and writes results.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from fspo_bench.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(days=14)  # the others wait while the first decodes and asks judges


@contextlib.contextmanager
def joined() -> Iterator[bool]:
    """Join the processes that the launcher started; whether this one leads (alone, it does).

    Raises:
        UserError: more processes on this machine than it has GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield True
        return
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if torch.cuda.is_available():
        local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(f"process {local} of this machine has no GPU of its own; start {gpus} at most")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield leads()
        if leads():
            call(None)
    finally:
        dist.destroy_process_group()


def size() -> int:
    """How many processes there are."""
    return _group().get_world_size() if _group() else 1


def leads() -> bool:
    """Whether this process is the first, or the only one."""
    return not _group() or _group().get_rank() == 0


def _group() -> Any:
    """torch.distributed, where processes have been joined."""
    import torch.distributed as dist

    return dist if dist.is_available() and dist.is_initialized() else None


def call(function: Callable[..., object] | None, *arguments: object) -> None:
    """Have every other process call a function; None sends them home."""
    if size() > 1:
        _group().broadcast_object_list([(function, arguments)])


def follow() -> int:
    """Do what the first process calls for, without a word, until it is done; the exit code.

    A lost first process is no news: it has said itself what happened.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        while True:
            called: list[Any] = [None]
            try:
                _group().broadcast_object_list(called)
            except (RuntimeError, KeyboardInterrupt):
                return 1
            function, arguments = called[0]
            if function is None:
                return 0
            function(*arguments)


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of what all of them do together."""
    return items[_group().get_rank() :: size()] if size() > 1 else items


def agree(value: int, where: str) -> None:
    """Check that a number is the same in every process.

    Raises:
        UserError: this process has another than the first, which must come from its files.
    """
    first = [value]
    if size() > 1:
        _group().broadcast_object_list(first)
    if first[0] != value:
        raise UserError(
            f"the processes do not see the same files in '{where}'; put FSPO_BENCH_HOME on a file system "
            "that all of them share"
        )


def sum_gradients(parameters: Iterable[Any], loss: float) -> float:
    """Put its sum over all processes in place of each gradient; returns the sum of their losses.

    A weight that is spread over the processes (`fspo_bench.lm.sharded`) has its gradient's mean already.
    """
    if size() == 1:
        return loss
    import torch

    total, work = torch.tensor(loss, dtype=torch.float64), []
    for p in parameters:
        if hasattr(p, "full_tensor"):
            p.grad.mul_(size())
            continue
        if p.grad is None:  # a last step may have fewer contexts than there are processes
            p.grad = torch.zeros_like(p)
        work.append(_group().all_reduce(p.grad, async_op=True))
    _group().all_reduce(total)
    for each in work:
        each.wait()
    return float(total)
