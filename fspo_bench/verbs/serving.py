"""The verb that serves a run. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path


def serve(arguments: argparse.Namespace) -> None:
    """Print the command that serves a run's policy, or give it."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.progress import say
    from fspo_bench.serving import RESULT, served_run, start
    from fspo_bench.store import Store

    folder = run_folder(arguments.name, Path(arguments.output_path))
    served = served_run(folder, read_record(folder / RESULT), Store())
    words = served.command(arguments.port)
    if arguments.json:
        print(json.dumps({"model": served.answers, "command": words}))
    else:
        print(shlex.join(words), flush=True)
        say(f"ask http://localhost:{arguments.port}/v1 for model {served.answers}")
    if arguments.start:
        start(words)
