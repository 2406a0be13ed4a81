"""The command line. Each verb imports what it needs, so that `--help` and `ls` are instant."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fspo_bench import __version__
from fspo_bench.errors import UserError

DESCRIPTION = "Measure how well language models personalise to real people."
RESUME_HINT = "interrupted; the same command goes on where it stopped"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one verb; 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except UserError as error:
        if arguments.debug:
            raise
        print(f"fspo-bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nfspo-bench: {RESUME_HINT}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fspo-bench ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if arguments.debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            from fspo_bench.store import home

            print(f"fspo-bench: the disk is full; make room for {home()} and the runs, and give the same "
                  "command again", file=sys.stderr)  # fmt: skip
            return 1
        print(f"fspo-bench: failed: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument("--pack", "--include-path", action="append", default=[], metavar="DIR",
                            help="a further folder with tasks/, methods/, baselines/")  # fmt: skip
    everywhere.add_argument("--json", action="store_true", help="print JSON instead of a table")
    everywhere.add_argument("--debug", action="store_true", help="show tracebacks")
    parser = argparse.ArgumentParser(prog="fspo-bench", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("run", parents=[everywhere], help="train, answer, judge and count")
    verb.add_argument("--method", "--methods", required=True, metavar="M[,M...]", help="names or .py files")
    verb.add_argument("--task", "--tasks", required=True, metavar="T[,T...]", help="names or folders")
    verb.add_argument("--model", help="smollm2-135m, hf/ORG/NAME, or a folder (default: the preset's)")
    verb.add_argument("--preset", default="cpu", help="tiny, cpu (default), gpu or paper")
    verb.add_argument("--seed", type=int, default=0, help="seed of training (the test episodes never change)")
    verb.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the method or preset"
    )
    _data_flags(verb)
    verb.add_argument("--limit", type=_positive, metavar="N", help="only N test users (a partial run)")
    verb.add_argument("--init", metavar="DIR", help="start from trained weights: 'released' or a folder")
    verb.add_argument(
        "--output-path", "--output_path", default="runs", metavar="DIR", help="where runs go (default: runs)"
    )
    verb.set_defaults(run=_run)

    verb = verbs.add_parser("compare", parents=[everywhere], help="paired difference of finished runs")
    verb.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders or ids; the first against each other one"
    )
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    verb.set_defaults(run=_compare)

    verb = verbs.add_parser("cp", parents=[everywhere], help="copy a method, to edit it and run the copy")
    verb.add_argument("name", help="a method or baseline")
    verb.add_argument("destination", type=Path, metavar="FILE.py")
    verb.set_defaults(run=_cp)

    verb = verbs.add_parser("new-task", parents=[everywhere], help="make a task of your own preferences")
    verb.add_argument("file", type=Path, help=".jsonl, .jsonl.gz, .csv or .parquet, a preference a row")
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="the task's folder")
    for column in ("user", "prompt", "chosen", "rejected"):
        verb.add_argument(f"--{column}", default=column, metavar="COLUMN", help=f"default: {column}")
    verb.add_argument("--test-share", type=float, default=0.2, help="of users and of prompts (default: 0.2)")
    verb.add_argument("--min-preferences", type=_positive, default=5, metavar="N",
                      help="drop users with fewer (default: 5)")  # fmt: skip
    verb.add_argument("--seed", type=int, default=0, help="of the splits")
    verb.add_argument("--license", default="not stated", help="of the texts, for the data card")
    verb.set_defaults(run=_new_task)

    verb = verbs.add_parser("ls", parents=[everywhere], help="list what the packs offer")
    verb.add_argument(
        "what", nargs="?", choices=["tasks", "methods", "baselines", "packs"], help="only these"
    )
    verb.set_defaults(run=_ls)

    verb = verbs.add_parser("show", parents=[everywhere], help="a task's card or a method's description")
    verb.add_argument("name")
    verb.set_defaults(run=_show)

    verb = verbs.add_parser("validate", parents=[everywhere], help="check tasks for leaks and faults")
    verb.add_argument("name", nargs="*", help="names or folders (default: every task)")
    verb.add_argument(
        "--shots", type=_positive, help="that every test user must afford (default: what the task promises)"
    )
    verb.add_argument("--model", help="also measure prompts in tokens of this model")
    _data_flags(verb)
    verb.set_defaults(run=_validate)
    return parser


def _data_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--source", choices=["bundled", "hub"], help="the task's own texts or published data")
    verb.add_argument(
        "--data-dir", "--data_dir", type=Path, metavar="DIR", help="files of the published data"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)


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


def _run(arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from fspo_bench.data.sources import open_task, option_names
    from fspo_bench.method import open_methods
    from fspo_bench.packs import find_methods, find_tasks, packs, resolve
    from fspo_bench.presets import preset

    where = packs(arguments.pack)
    chosen = preset(arguments.preset)
    if arguments.model:
        chosen = replace(chosen, model=arguments.model)
    settings = _settings(arguments.set)
    every = find_methods(where)
    methods = [resolve(name, every, "method") for name in arguments.method.split(",")]
    folders = [resolve(name, find_tasks(where), "task").path for name in arguments.task.split(",")]
    source = (arguments.source, arguments.data_dir)
    of_tasks = {name for folder in folders for name in option_names(folder, *source)}
    opened = open_methods(methods, chosen, settings, of_tasks, every)
    tasks = [open_task(folder, *source, settings) for folder in folders]
    plans = [(task, method, its_preset, _init(arguments.init, task.name, method.name))
             for task in tasks for method, its_preset in opened]  # fmt: skip

    from fspo_bench.run import Request, run  # torch only once the input is known to be good
    from fspo_bench.store import Store

    command = " ".join(["fspo-bench", *sys.argv[1:]])
    records = [
        run(
            Request(
                task,
                method,
                its_preset,
                arguments.seed,
                arguments.limit,
                init,
                Path(arguments.output_path),
                command,
            ),
            Store(),
        )
        for task, method, its_preset, init in plans
    ]
    if arguments.json:
        dumped = [record.model_dump() for record in records]
        print(json.dumps(dumped[0] if len(dumped) == 1 else dumped, indent=2))
    else:
        from fspo_bench.evaluate.report import table

        print(table(records))


def _init(given: str | None, task: str, method: str) -> Path | None:
    from fspo_bench.packs import builtin_root

    if given is None:
        return None
    folder = (
        builtin_root() / "leaderboards" / "released" / f"{task}-{method}"
        if given == "released"
        else Path(given)
    )
    if not folder.is_dir():
        what = (
            f"no released weights for {method} on {task}" if given == "released" else f"no folder '{given}'"
        )
        raise UserError(f"--init: {what}; give a folder of trained weights")
    return folder


def _compare(arguments: argparse.Namespace) -> None:
    from fspo_bench.evaluate.compare import comparison, read_run
    from fspo_bench.evaluate.report import comparison_table

    if len(arguments.runs) < 2:
        raise UserError("compare: give at least two runs")
    first, *others = [read_run(name, Path(arguments.output_path)) for name in arguments.runs]
    rows = comparison(first, others)
    if arguments.json:
        print(json.dumps([{"runs": name, **metric.model_dump()} for name, metric in rows], indent=2))
    else:
        print(comparison_table(rows))


def _cp(arguments: argparse.Namespace) -> None:
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


def _new_task(arguments: argparse.Namespace) -> None:
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


def _ls(arguments: argparse.Namespace) -> None:
    from fspo_bench.packs import docstring, find_methods, find_tasks, packs

    where = packs(arguments.pack)
    rows: list[dict[str, str]] = []
    if arguments.what in (None, "tasks"):
        rows += [
            {"kind": "task", "name": f.name, "pack": f.pack, "summary": _summary(f.path)}
            for f in find_tasks(where)
        ]
    if arguments.what in (None, "methods", "baselines"):
        rows += [
            {"kind": f.kind, "name": f.name, "pack": f.pack, "summary": docstring(f).partition("\n")[0]}
            for f in find_methods(where)
            if arguments.what in (None, f"{f.kind}s")
        ]
    if arguments.what == "packs":
        rows += [{"kind": "pack", "name": p.name, "pack": p.name, "summary": str(p.root)} for p in where]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        origin = "" if row["pack"] in ("fspo-bench", row["name"]) else f" [{row['pack']}]"
        print(f"{row['kind']:<9} {row['name']:<15} {row['summary']}{origin}")


def _summary(folder: Path) -> str:
    import yaml

    try:
        return str(yaml.safe_load((folder / "task.yaml").read_text(encoding="utf-8"))["summary"])
    except (yaml.YAMLError, KeyError, TypeError):
        return "(task.yaml cannot be read; see `fspo-bench validate`)"


def _show(arguments: argparse.Namespace) -> None:
    from fspo_bench.packs import docstring, find_methods, find_tasks, packs, resolve

    where = packs(arguments.pack)
    tasks, methods = find_tasks(where), find_methods(where)
    names = {name for f in tasks for name in (f.name, f"{f.pack}/{f.name}")}
    looks_like_task = arguments.name in names or (Path(arguments.name) / "task.yaml").is_file()
    if looks_like_task:
        folder = resolve(arguments.name, tasks, "task").path
        card = folder / "README.md"
        text = (
            card.read_text(encoding="utf-8")
            if card.is_file()
            else (folder / "task.yaml").read_text(encoding="utf-8")
        )
    elif Path(arguments.name).suffix == ".py":
        text = docstring(resolve(arguments.name, methods, "method"))
    else:
        text = docstring(resolve(arguments.name, [*methods, *tasks], "task, method or baseline"))
    print(json.dumps({"name": arguments.name, "text": text}) if arguments.json else text.rstrip())


def _validate(arguments: argparse.Namespace) -> None:
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
