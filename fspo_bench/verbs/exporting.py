"""Verbs that write tasks in other tools' files. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from fspo_bench.errors import UserError


def export_tasks(arguments: argparse.Namespace) -> None:
    """Write tasks in another tool's files."""
    from fspo_bench.data.sources import open_task, source_of
    from fspo_bench.export.datasets import export_datasets
    from fspo_bench.packs import find_tasks, packs, resolve
    from fspo_bench.presets import preset

    budget = preset(arguments.preset)
    budget = replace(budget, shots=arguments.shots or budget.shots)
    every = find_tasks(packs(arguments.pack))
    found = [f for f in every if source_of(f.path) == "bundled"]
    if arguments.task != "all":
        found = [resolve(name, every, "task") for name in arguments.task.split(",")]
    tasks = [open_task(f.path, arguments.source or budget.source or None, arguments.data_dir) for f in found]
    try:
        files = [export_datasets(tasks, budget, arguments.out)]
    except OSError as error:
        raise UserError(f"export-tasks: cannot write into '{arguments.out}' ({error.strerror})") from None
    print(json.dumps([str(file) for file in files]) if arguments.json else "\n".join(map(str, files)))
