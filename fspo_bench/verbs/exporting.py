"""Verbs that hand tasks and policies to other tools. Heavy imports stay inside: `--help` is instant."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from fspo_bench.errors import UserError


def export_tasks(arguments: argparse.Namespace) -> None:
    """Write tasks in another tool's files."""
    from fspo_bench.data.sources import open_task
    from fspo_bench.export.datasets import export_datasets
    from fspo_bench.export.lm_eval import export_lm_eval
    from fspo_bench.packs import packs
    from fspo_bench.plan import named_tasks
    from fspo_bench.presets import preset

    budget = preset(arguments.preset)
    budget = replace(budget, shots=arguments.shots or budget.shots)
    found = named_tasks(arguments.task.split(","), packs(arguments.pack), arguments.data_dir)
    tasks = [open_task(f.path, arguments.source or budget.source or None, arguments.data_dir) for f in found]
    try:
        export = {"lm-eval": export_lm_eval, "datasets": export_datasets}[arguments.to]
        files = export(tasks, budget, arguments.out)
    except OSError as error:
        raise UserError(f"export-tasks: cannot write into '{arguments.out}' ({error.strerror})") from None
    print(json.dumps([str(file) for file in files]) if arguments.json else "\n".join(map(str, files)))


def tax(arguments: argparse.Namespace) -> None:
    """Measure by lm-eval what a run's training changed in general ability."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.evaluate.scoring import RESULT
    from fspo_bench.evaluate.tax import Asked, table, tax
    from fspo_bench.store import Store, write_atomic

    if arguments.tasks_from and not arguments.tasks_from.is_dir():
        raise UserError(f"--tasks-from: no folder '{arguments.tasks_from}'")
    run = run_folder(arguments.name, Path(arguments.output_path))
    asked = Asked(
        arguments.tasks.split(","), arguments.tasks_from, arguments.limit, arguments.apply_chat_template
    )
    found = tax(run, read_record(run / RESULT), asked, Store())
    write_atomic(run / "tax.json", found.model_dump_json(indent=2) + "\n")
    write_atomic(run / "tax.md", table(found) + "\n")
    print(found.model_dump_json(indent=2) if arguments.json else table(found))
