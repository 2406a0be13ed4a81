"""The verb `synth-report`. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def synth_report(arguments: argparse.Namespace) -> None:
    """Measure a task and the stages of its synthesis."""
    from fspo_bench.store import Store
    from fspo_bench.synth.report import as_json, check_drawing, markdown, report, write

    folder = _folder(arguments)
    if arguments.out:
        check_drawing()
    found = report(folder, arguments.embedder, Store(), arguments.source, arguments.data_dir)
    files = write(found, arguments.out) if arguments.out else []
    if arguments.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        print("\n".join(map(str, files)) if files else markdown(found))


def _folder(arguments: argparse.Namespace) -> Path:
    """A task by name or folder, or the folder of a synthesis that has not come to a task yet."""
    from fspo_bench.packs import find_tasks, packs, resolve
    from fspo_bench.synth.recorded import FOLDER

    folder = Path(arguments.task).expanduser()
    if (folder / FOLDER).is_dir():
        return folder.resolve()
    return resolve(arguments.task, find_tasks(packs(arguments.pack)), "task").path
