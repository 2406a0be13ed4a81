"""What each verb of the command line does. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fspo_bench.errors import UserError

if TYPE_CHECKING:
    from fspo_bench.data.tasks import Task
    from fspo_bench.judge.opening import Chosen
    from fspo_bench.packs import Found


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
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


def run(arguments: argparse.Namespace) -> None:
    """Train, answer, judge and count."""
    from fspo_bench.packs import packs
    from fspo_bench.plan import Wanted, plan

    wanted = Wanted(
        methods=arguments.method.split(","), tasks=arguments.task.split(","), preset=arguments.preset,
        model=arguments.model or "", seeds=arguments.seeds or (arguments.seed,),
        settings=_settings(arguments.set), source=arguments.source, data_dir=arguments.data_dir,
        limit=arguments.limit, init=arguments.init, runs=Path(arguments.output_path),
        judge=_chosen_judge(arguments),
    )  # fmt: skip
    requests = plan(wanted, packs(arguments.pack), _command())

    from fspo_bench.grid import plan_table, planned, run_all
    from fspo_bench.store import Store

    if arguments.dry_run:
        print(plan_table(planned(requests, Store()), Store()))
        return
    records = run_all(requests, Store())
    if arguments.json:
        dumped = [record.model_dump() for record in records]
        print(json.dumps(dumped[0] if len(dumped) == 1 else dumped, indent=2))
    else:
        from fspo_bench.evaluate.report import table

        print(table(records))


def reproduce(arguments: argparse.Namespace) -> int:
    """Run the paper's tables, ours beside the paper's, and test its claims."""
    from fspo_bench.leaderboard.claims import HOLDS
    from fspo_bench.leaderboard.paper import read_table
    from fspo_bench.packs import packs
    from fspo_bench.plan import Wanted

    tables = [read_table(name) for name in arguments.tables.split(",")]
    wanted = Wanted(
        methods=(), tasks=(), preset=arguments.preset, model=arguments.model or "", seeds=arguments.seeds,
        settings=_settings(arguments.set), source=arguments.source, data_dir=arguments.data_dir,
        runs=Path(arguments.output_path), judge=_chosen_judge(arguments),
    )  # fmt: skip

    from fspo_bench.grid import plan_table, planned, run_all
    from fspo_bench.leaderboard.reproduce import dumped, reproduced, requests_of, side_by_side
    from fspo_bench.store import Store

    store = Store()
    cells = [requests_of(table, wanted, packs(arguments.pack), _command()) for table in tables]
    requests = [r for of_table in cells for those in of_table.values() for r in those]
    if arguments.dry_run:
        print(plan_table(planned(requests, store), store))
        return 0
    run_all(requests, store)
    found = [reproduced(table, of_table, store) for table, of_table in zip(tables, cells, strict=True)]
    print(json.dumps([dumped(f) for f in found], indent=2) if arguments.json else
          "\n\n".join(map(side_by_side, found)))  # fmt: skip
    borne_out = all(f.outcome == HOLDS for one in found for f in one.findings)
    return int(arguments.strict and not borne_out)


def _command() -> str:
    return " ".join(["fspo-bench", *sys.argv[1:]])


def _chosen_judge(arguments: argparse.Namespace) -> Chosen:
    """The judge asked for; its file is read here, so that a fault shows before any work."""
    from fspo_bench.judge.opening import Chosen
    from fspo_bench.packs import find_judges, packs, resolve

    found = resolve(arguments.judge, find_judges(packs(arguments.pack)), "judge")
    chosen = Chosen(found, arguments.judge_model, arguments.max_cost)
    chosen.spec()
    return chosen


def score(arguments: argparse.Namespace) -> None:
    """Judge finished runs by another judge."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.report import table
    from fspo_bench.evaluate.rescore import forecast, rescore
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.store import Store

    chosen = _chosen_judge(arguments)
    folders = [run_folder(name, Path(arguments.output_path)) for name in arguments.runs]
    tasks = [
        _task_of(arguments.task or read_record(folder / "result.json").task, arguments) for folder in folders
    ]
    if arguments.dry_run:
        for folder, task in zip(folders, tasks, strict=True):
            print(f"{folder}: {forecast(folder, task, chosen, Store())}")
        return
    found = [rescore(f, t, chosen, Store(), _command()) for f, t in zip(folders, tasks, strict=True)]
    if arguments.json:
        print(json.dumps([one.record.model_dump() for one in found], indent=2))
    else:
        print(table([one.record for one in found]))
        print("\n".join(f"written to {one.folder}" for one in found))


def export(arguments: argparse.Namespace) -> None:
    """Write a run in other tools' files."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.export import export
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.evaluate.scoring import read_outputs

    folder = run_folder(arguments.name, Path(arguments.output_path))
    record = read_record(folder / "result.json")
    task = _task_of(arguments.task or record.task, arguments)
    try:
        files = export(record, read_outputs(folder), task, arguments.to, arguments.out)
    except OSError as error:
        raise UserError(f"export: cannot write into '{arguments.out}' ({error.strerror})") from None
    print(json.dumps([str(file) for file in files]) if arguments.json else "\n".join(map(str, files)))


def judge_card(arguments: argparse.Namespace) -> None:
    """Measure a judge on labelled pairs."""
    from fspo_bench.evaluate.judge_cards import card_table, forecast, measured, write_card
    from fspo_bench.store import Store

    chosen = _chosen_judge(arguments)
    tasks = [_task_of(name, arguments) for name in arguments.task.split(",")]
    if arguments.dry_run:
        for task in tasks:
            print(f"{task.name}: {forecast(chosen, task, arguments.pairs, Store())}")
        return
    cards = [measured(chosen, task, arguments.pairs, Store()) for task in tasks]
    for card in cards if arguments.out else ():
        write_card(card, arguments.out)
    print(json.dumps([c.model_dump() for c in cards], indent=2) if arguments.json else card_table(cards))


def _task_of(name: str, arguments: argparse.Namespace) -> Task:
    from fspo_bench.data.sources import open_task
    from fspo_bench.packs import find_tasks, packs, resolve

    folder = resolve(name, find_tasks(packs(arguments.pack)), "task").path
    return open_task(folder, arguments.source, arguments.data_dir)


def compare(arguments: argparse.Namespace) -> None:
    """Paired differences of finished runs."""
    from fspo_bench.evaluate.compare import comparison, read_run
    from fspo_bench.evaluate.report import comparison_table

    if len(arguments.runs) < 2:
        raise UserError("compare: give at least two runs")
    first, *others = [read_run(name, Path(arguments.output_path)) for name in arguments.runs]
    found = comparison(first, others)
    print(found.model_dump_json(indent=2) if arguments.json else comparison_table(found))


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
