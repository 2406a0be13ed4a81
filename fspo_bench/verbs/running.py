"""Verbs that train and answer. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fspo_bench.verbs.common import chosen_judge, command, settings

if TYPE_CHECKING:
    from fspo_bench.evaluate.results import Record
    from fspo_bench.plan import Wanted
    from fspo_bench.run import Request


def run(arguments: argparse.Namespace) -> None:
    """Train, answer, judge and count."""
    from fspo_bench.packs import packs
    from fspo_bench.plan import Wanted, plan

    wanted = Wanted(
        methods=arguments.method.split(","), tasks=arguments.task.split(","), preset=arguments.preset,
        model=arguments.model or "", seeds=arguments.seeds or (arguments.seed,),
        settings=settings(arguments.set), source=arguments.source, data_dir=arguments.data_dir,
        limit=arguments.limit, init=arguments.init, runs=Path(arguments.output_path),
        judge=chosen_judge(arguments),
    )  # fmt: skip
    requests = plan(wanted, packs(arguments.pack), command())

    from fspo_bench.grid import plan_table, planned
    from fspo_bench.store import Store

    if arguments.dry_run:
        print(plan_table(planned(requests, Store()), Store()))
        return
    records = _run_all(requests, [wanted], arguments)
    if arguments.executor == "print":
        return
    if arguments.json:
        dumped = [record.model_dump() for record in records]
        print(json.dumps(dumped[0] if len(dumped) == 1 else dumped, indent=2))
    else:
        from fspo_bench.evaluate.report import table

        print(table(records))


def _run_all(
    requests: Sequence[Request], wanted: Sequence[Wanted], arguments: argparse.Namespace
) -> list[Record]:
    """The records of all runs, made where `--executor` says; none where it prints commands."""
    if arguments.executor == "local":
        from fspo_bench.grid import run_all
        from fspo_bench.store import Store

        return run_all(requests, Store())
    from fspo_bench.executors import run_on_ray, shell_command
    from fspo_bench.packs import packs
    from fspo_bench.plan import cells

    runs = {shell_command(c, arguments.pack): c for w in wanted for c in cells(w, packs(arguments.pack))}
    if arguments.executor == "print":
        print(json.dumps(list(runs)) if arguments.json else "\n".join(runs))
        return []
    return run_on_ray(list(runs.values()), arguments.pack, command(), arguments.resources)


def reproduce(arguments: argparse.Namespace) -> int:
    """Run the paper's tables, ours beside the paper's, and test its claims."""
    from fspo_bench.leaderboard.claims import HOLDS
    from fspo_bench.leaderboard.paper import read_table
    from fspo_bench.packs import packs
    from fspo_bench.plan import Wanted

    tables = [read_table(name) for name in arguments.tables.split(",")]
    wanted = Wanted(
        methods=(), tasks=(), preset=arguments.preset, model=arguments.model or "", seeds=arguments.seeds,
        settings=settings(arguments.set), source=arguments.source, data_dir=arguments.data_dir,
        runs=Path(arguments.output_path), judge=chosen_judge(arguments),
    )  # fmt: skip

    from fspo_bench.grid import plan_table, planned
    from fspo_bench.leaderboard.reproduce import (
        dumped,
        reproduced,
        requests_of,
        side_by_side,
        that_run,
        wanted_of,
    )
    from fspo_bench.store import Store

    store = Store()
    cells = [requests_of(table, wanted, packs(arguments.pack), command()) for table in tables]
    requests = [
        r
        for table, of_table in zip(tables, cells, strict=True)
        for of_row in that_run(table, of_table)
        for r in of_row
    ]
    if arguments.dry_run:
        print(plan_table(planned(requests, store), store))
        return 0
    if requests:
        of_rows = [w for table in tables for w in that_run(table, wanted_of(table, wanted))]
        _run_all(requests, of_rows, arguments)
    if arguments.executor == "print":
        return 0
    found = [reproduced(table, of_table, store) for table, of_table in zip(tables, cells, strict=True)]
    print(json.dumps([dumped(f) for f in found], indent=2) if arguments.json else
          "\n\n".join(map(side_by_side, found)))  # fmt: skip
    borne_out = all(f.outcome == HOLDS or f.confounded for one in found for f in one.findings)
    return int(arguments.strict and not borne_out)
