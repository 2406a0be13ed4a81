"""Verbs about the Hugging Face Hub. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fspo_bench.errors import UserError
from fspo_bench.verbs.common import task_of


def push(arguments: argparse.Namespace) -> None:
    """Write a trained run as a folder for the Hub, and upload it if asked to."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.evaluate.scoring import RESULT
    from fspo_bench.export.push import upload, write_folder
    from fspo_bench.packs import find_methods, packs
    from fspo_bench.store import Store

    run = run_folder(arguments.name, Path(arguments.output_path))
    record = read_record(run / RESULT)
    task = task_of(arguments.task or record.task, arguments, record)
    out = arguments.out or run / "push"
    name, methods = arguments.to or f"{record.task}-{record.method}", find_methods(packs(arguments.pack))
    try:
        folder = write_folder(run, record, task, methods, out, name, Store())
    except OSError as error:
        raise UserError(f"push: cannot write into '{out}' ({error.strerror})") from None
    address = upload(folder, arguments.to) if arguments.to else None
    if arguments.json:
        print(json.dumps({"folder": str(folder), "address": address}))
    elif address:
        print(f"{address}\nprivate until you open it there; its card: {folder / 'README.md'}")
    else:
        print(f"{folder}\nnext: read its README.md, then give the same command with --to OWNER/NAME")
