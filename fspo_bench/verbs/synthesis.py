"""The verb that makes a task with language models. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fspo_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fspo_bench.synth.files import Shard


def synth(arguments: argparse.Namespace) -> None:
    """Make a task, or go on making it."""
    from fspo_bench.judge.calls import Budget
    from fspo_bench.synth.crew import check_models, open_model, require_keys
    from fspo_bench.synth.domain import read_domain
    from fspo_bench.synth.forecast import table
    from fspo_bench.synth.runner import Synthesis

    if not arguments.scale > 0:
        raise UserError(f"--scale {arguments.scale:g}: must be above 0")
    without = [part for part in arguments.without.split(",") if part]
    domain = read_domain(_file(arguments), without, arguments.scale)
    models = [open_model(given, arguments.concurrency) for given in arguments.model]
    check_models(models, domain.prices, arguments.max_cost)
    synthesis = Synthesis(
        domain, models, arguments.out, _embed, _shard(arguments.shard), Budget(arguments.max_cost)
    )
    if arguments.dry_run:
        made, seconds = synthesis.made(), synthesis.seconds()
        print(table(domain, synthesis.names, arguments.concurrency, made, seconds))
        return
    require_keys(models)
    figures = synthesis.run()
    if arguments.json:
        print(
            json.dumps(
                {"task": str(arguments.out), "complete": figures is not None, **dict(figures or [])}, indent=2
            )
        )
    elif figures is not None:
        print("\n".join([f"wrote {arguments.out}", *(f"  {what}: {count:,}" for what, count in figures)]))
        print(f"next: fspo-bench validate {arguments.out}")


def _embed(texts: Sequence[str]) -> NDArray[np.float32]:
    from fspo_bench.lm.embed import unit_vectors

    return unit_vectors(texts)


def _file(arguments: argparse.Namespace) -> Path:
    """The domain file that was named, by itself or by its task."""
    from fspo_bench.packs import find_tasks, packs, resolve

    given = Path(arguments.domain).expanduser()
    if given.suffix in (".yaml", ".yml"):
        return given
    folder = resolve(arguments.domain, find_tasks(packs(arguments.pack)), "task").path
    if not (folder / "domain.yaml").is_file():
        raise UserError(f"task '{arguments.domain}' has no domain.yaml; give a domain file")
    return folder / "domain.yaml"


def _shard(given: str) -> Shard:
    from fspo_bench.synth.files import Shard

    match = re.fullmatch(r"(\d+)/(\d+)", given)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {given}: give I/N, from 1/N to N/N")
    return Shard(int(match[1]), int(match[2]))
