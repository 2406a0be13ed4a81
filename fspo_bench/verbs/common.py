"""What several verbs read of what was typed. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fspo_bench.errors import UserError

OUTPUT = ("--output-path", "--output_path")

if TYPE_CHECKING:
    from fspo_bench.data.tasks import Task
    from fspo_bench.evaluate.results import Record
    from fspo_bench.judge.opening import Chosen


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """What `--set` gave, read as YAML values."""
    import yaml

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set {pair}: write KEY=VALUE")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {pair}: the value is no number, text, true or false") from None
        if isinstance(settings[key], str):  # YAML reads 1e-4 as a text
            with contextlib.suppress(ValueError):
                settings[key] = float(value)
    return settings


def command() -> str:
    """What was typed, for records; without the place on this machine that runs went to."""
    kept, typed = ["fspo-bench"], iter(sys.argv[1:])
    for word in typed:
        if word in OUTPUT:
            next(typed, None)
        elif word.partition("=")[0] not in OUTPUT:
            kept.append(word)
    return shlex.join(kept)


def chosen_judge(arguments: argparse.Namespace) -> Chosen:
    """The judge asked for; its file is read here, so that a fault shows before any work."""
    from fspo_bench.judge.opening import Chosen
    from fspo_bench.packs import find_judges, packs, resolve

    found = resolve(arguments.judge, find_judges(packs(arguments.pack)), "judge")
    chosen = Chosen(found, arguments.judge_model, arguments.max_cost)
    chosen.spec()
    return chosen


def task_of(name: str, arguments: argparse.Namespace, record: Record | None = None) -> Task:
    """A task by name; a run's from where the run had it, unless `--source` says otherwise."""
    from fspo_bench.data.sources import open_task
    from fspo_bench.packs import find_tasks, packs, resolve

    folder = resolve(name, find_tasks(packs(arguments.pack)), "task").path
    of_run = record.spec["preset"].get("source") if record else None
    return open_task(folder, arguments.source or of_run or None, arguments.data_dir)
