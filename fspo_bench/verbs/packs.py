"""Verbs about what packs hold. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fspo_bench.errors import UserError

if TYPE_CHECKING:
    from fspo_bench.packs import Found


def cp(arguments: argparse.Namespace) -> None:
    """Copy a method."""
    from fspo_bench.packs import find_methods, packs, resolve
    from fspo_bench.store import write_atomic

    source = resolve(arguments.name, find_methods(packs(arguments.pack)), "method").path
    target: Path = arguments.destination
    if target.is_dir():
        target = target / source.name
    if target.suffix != ".py":
        raise UserError(f"cp: '{target}' must end in .py, so that `--method {target}.py` can find it")
    if target.exists():
        raise UserError(f"cp: '{target}' is there already; give another name")
    try:
        write_atomic(target, source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cp: cannot write '{target}' ({error.strerror})") from None
    shown = target if target.is_absolute() else f"./{target}"
    print(json.dumps({"file": str(target)}) if arguments.json else
          f"{target}\nnext: fspo-bench run --method {shown} --task roleplay")  # fmt: skip


def new_task(arguments: argparse.Namespace) -> None:
    """Make a task of preferences."""
    from fspo_bench.data.new_task import new_task
    from fspo_bench.data.preference_files import Columns

    columns = Columns(arguments.user, arguments.prompt, arguments.chosen, arguments.rejected)
    report = new_task(
        arguments.file, arguments.out, columns, arguments.test_share, arguments.min_preferences,
        arguments.seed, arguments.license,
    )  # fmt: skip
    if arguments.json:
        print(json.dumps({"task": str(report.out), **dict(report.figures())}, indent=2))
        return
    print("\n".join(report.lines()))
    print(f"next: fspo-bench run --method few_shot --task {report.out}")


def ls(arguments: argparse.Namespace) -> None:
    """List what the packs offer."""
    from fspo_bench.packs import docstring, find_judges, find_methods, find_tasks, packs

    where = packs(arguments.pack)
    rows: list[dict[str, str]] = []
    if arguments.what in (None, "tasks"):
        rows += [
            {"kind": "task", "name": f.name, "pack": f.pack, "summary": _summary(f.path / "task.yaml")}
            for f in find_tasks(where)
        ]
    if arguments.what in (None, "methods", "baselines"):
        rows += [
            {"kind": f.kind, "name": f.name, "pack": f.pack, "summary": docstring(f).partition("\n")[0]}
            for f in find_methods(where)
            if arguments.what in (None, f"{f.kind}s")
        ]
    if arguments.what in (None, "judges"):
        rows += [
            {"kind": "judge", "name": f.name, "pack": f.pack, "summary": _summary(f.path / "judge.yaml")}
            for f in find_judges(where)
        ]
    if arguments.what == "packs":
        rows += [{"kind": "pack", "name": p.name, "pack": p.name, "summary": str(p.root)} for p in where]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        origin = "" if row["pack"] in ("fspo-bench", row["name"]) else f" [{row['pack']}]"
        print(f"{row['kind']:<9} {row['name']:<15} {row['summary']}{origin}")


def _summary(file: Path) -> str:
    import yaml

    try:
        return str(yaml.safe_load(file.read_text(encoding="utf-8"))["summary"])
    except (yaml.YAMLError, KeyError, TypeError):
        return f"({file.name} cannot be read; see `fspo-bench validate`)"


def show(arguments: argparse.Namespace) -> None:
    """A task's card or a method's description."""
    from fspo_bench.packs import docstring, find_judges, find_methods, find_tasks, packs, resolve

    where = packs(arguments.pack)
    tasks, methods, judges = find_tasks(where), find_methods(where), find_judges(where)

    def is_one(found: Sequence[Found], file: str) -> bool:
        named = {name for f in found for name in (f.name, f"{f.pack}/{f.name}")}
        return arguments.name in named or (Path(arguments.name) / file).is_file()

    if is_one(tasks, "task.yaml"):
        folder = resolve(arguments.name, tasks, "task").path
        card = folder / "README.md"
        text = (
            card.read_text(encoding="utf-8")
            if card.is_file()
            else (folder / "task.yaml").read_text(encoding="utf-8")
        )
    elif is_one(judges, "judge.yaml"):
        folder = resolve(arguments.name, judges, "judge").path
        files = [folder / "judge.yaml", *sorted(folder.glob("*.md"))]
        text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    elif Path(arguments.name).suffix == ".py":
        text = docstring(resolve(arguments.name, methods, "method"))
    else:
        every = [*methods, *tasks, *judges]
        text = docstring(resolve(arguments.name, every, "task, method, baseline or judge"))
    print(json.dumps({"name": arguments.name, "text": text}) if arguments.json else text.rstrip())


def validate(arguments: argparse.Namespace) -> None:
    """Check tasks."""
    from fspo_bench.data.sources import open_task, source_of
    from fspo_bench.packs import find_tasks, packs, resolve
    from fspo_bench.validate import validate

    tasks = find_tasks(packs(arguments.pack))
    source = (arguments.source, arguments.data_dir)
    chosen = [resolve(name, tasks, "task") for name in arguments.name]
    if not chosen:
        chosen = [f for f in tasks if source_of(f.path) == "bundled"]
        for f in tasks:
            if f not in chosen:
                print(f"{f.name}: comes with no data; check it with --data-dir", file=sys.stderr)
    names = [f.name for f in chosen]
    checked = {
        f.name if names.count(f.name) == 1 else f"{f.pack}/{f.name}": validate(
            open_task(f.path, *source), arguments.shots, arguments.model
        )
        for f in chosen
    }
    if arguments.json:
        print(json.dumps(checked, indent=2))
    for name, counts in {} if arguments.json else checked.items():
        print(f"{name}: sound ({', '.join(f'{n} {what}' for what, n in counts.items() if n)})")
