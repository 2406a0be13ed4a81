"""A grid's runs elsewhere: as shell commands for any scheduler, or by Ray on this machine or a cluster.

The store and the folder of runs are shared by the file system; a run that is given twice is done once.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fspo_bench.errors import Stopped, UserError
from fspo_bench.evaluate.results import Record
from fspo_bench.grid import complain, reason
from fspo_bench.packs import packs
from fspo_bench.plan import Wanted, plan
from fspo_bench.progress import clock, say
from fspo_bench.run import run
from fspo_bench.store import Store

T = TypeVar("T")

PLACES = ("FSPO_BENCH_HOME", "FSPO_BENCH_PACKS", "HF_HOME", "HF_HUB_OFFLINE", "OPENAI_BASE_URL")
"""What a run elsewhere needs of this environment. Keys are not passed on: they would stand in logs."""
RETRIES = 3
"""Of a run that fails or whose worker is lost."""


def places() -> dict[str, str]:
    """Those of `PLACES` that are set."""
    return {name: os.environ[name] for name in PLACES if name in os.environ}


def shell_command(cell: Wanted, pack: Sequence[str] = ()) -> str:
    """A command that makes one run, from any folder of any machine with the same file system.

    Args:
        cell: a run, from `plan.cells`.
        pack: further pack folders.
    """
    judge = cell.judge
    flags = {
        "--method": cell.methods[0],
        "--task": cell.tasks[0],
        "--preset": cell.preset,
        "--seed": cell.seeds[0],
        "--model": cell.model,
        "--source": cell.source,
        "--data-dir": cell.data_dir,
        "--limit": cell.limit,
        "--init": cell.init,
        "--judge": judge.found.path if judge.found.pack == "path" else judge.found.name,
        "--judge-model": judge.model,
        "--max-cost": judge.max_cost,
        "--output-path": cell.runs,
    }
    words = [str(word) for flag, value in flags.items() if value not in (None, "") for word in (flag, value)]
    words += [word for key, value in cell.settings.items() for word in ("--set", f"{key}={_text(value)}")]
    words += [word for folder in pack for word in ("--pack", str(Path(folder).expanduser().resolve()))]
    environment = [f"{name}={shlex.quote(value)}" for name, value in places().items()]
    return " ".join([*environment, "fspo-bench run", shlex.join(words)])


def _text(value: Any) -> str:
    """The text that `--set` reads as this value."""
    plain = isinstance(value, str) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value)


def run_on_ray(
    cells: Sequence[Wanted], pack: Sequence[str], command: str, resources: Mapping[str, float]
) -> list[Record]:
    """Every cell's record, made by Ray.

    Raises:
        UserError: no run can be made.
        Stopped: some of several runs failed; the others are finished.
    """
    jobs = {_name(c): (c, [str(Path(p).resolve()) for p in pack], command) for c in cells}
    records: dict[str, Record] = {}
    failed = []
    for name, outcome in on_ray(_run_cell, jobs, resources, "run"):
        if isinstance(outcome, Exception):
            failed.append(f"{name} ({reason(outcome)})")
        else:
            records[name] = outcome
    complain(failed, len(jobs))
    return [records[name] for name in jobs if name in records]


def _name(cell: Wanted) -> str:
    settings = "".join(f" / {key}={value}" for key, value in cell.settings.items())
    return f"{cell.tasks[0]} / {cell.methods[0]} / seed {cell.seeds[0]}{settings}"


def _run_cell(cell: Wanted, pack: Sequence[str], command: str) -> Record:
    (request,) = plan(cell, packs(pack), command)
    return run(request, Store())


def on_ray(
    work: Callable[..., T], jobs: Mapping[str, tuple[Any, ...]], resources: Mapping[str, float], what: str
) -> Iterator[tuple[str, T | Exception]]:
    """Do each job as a Ray task; yields its name with its result, or with why it failed, as they end.

    A lost worker's job is done again elsewhere, and so is one that fails by anything but a `UserError`.
    Ray runs on this machine unless `RAY_ADDRESS` names a cluster.

    Args:
        work: a function of a module that every machine can import.
        jobs: its arguments, by the job's name.
        resources: of each job: `num_cpus`, `num_gpus`, or any that the cluster names.
        what: a job is, for the progress line.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray needs Ray: pip install 'fspo-bench[ray]'") from None
    own = {key: value for key, value in resources.items() if key not in ("num_cpus", "num_gpus")}
    built_in = {key: value for key, value in resources.items() if key not in own}
    with ray.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": places()}):
        task = ray.remote(max_retries=RETRIES, retry_exceptions=True, resources=own, **built_in)(_attempt)
        waiting = {task.remote(work, *arguments): name for name, arguments in jobs.items()}
        say(f"Ray: {len(jobs)} {what}s, {ray.available_resources().get('CPU', 0):g} CPUs free")
        began = time.monotonic()
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            name = waiting.pop(done)
            outcome = _outcome(done)
            ended, spent = len(jobs) - len(waiting), time.monotonic() - began
            failed = f": {reason(outcome)}" if isinstance(outcome, Exception) else ""
            eta = f", ETA {clock(spent / ended * len(waiting))}" if waiting else f", in {clock(spent)}"
            say(f"[{ended}/{len(jobs)}] {name}{failed}{eta}")
            yield name, outcome


def _attempt(work: Callable[..., T], *arguments: Any) -> T | UserError:
    """In a worker. What the user can mend is a result: to try again would not help."""
    try:
        return work(*arguments)
    except UserError as error:
        return error


def _outcome(done: Any) -> Any:
    """What a task returned, or the error that it ended with."""
    import ray

    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        return error.cause
    except ray.exceptions.RayError as error:
        return Stopped(f"its worker was lost {RETRIES + 1} times ({type(error).__name__})")
