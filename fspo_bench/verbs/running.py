"""Verbs that train and answer. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fspo_bench.verbs.common import chosen_judge, command, settings


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
        settings=settings(arguments.set), source=arguments.source, data_dir=arguments.data_dir,
        runs=Path(arguments.output_path), judge=chosen_judge(arguments),
    )  # fmt: skip

    from fspo_bench.grid import plan_table, planned, run_all
    from fspo_bench.leaderboard.reproduce import dumped, reproduced, requests_of, side_by_side, to_run
    from fspo_bench.store import Store

    store = Store()
    cells = [requests_of(table, wanted, packs(arguments.pack), command()) for table in tables]
    requests = [r for table, of_table in zip(tables, cells, strict=True) for r in to_run(table, of_table)]
    if arguments.dry_run:
        print(plan_table(planned(requests, store), store))
        return 0
    if requests:
        run_all(requests, store)
    found = [reproduced(table, of_table, store) for table, of_table in zip(tables, cells, strict=True)]
    print(json.dumps([dumped(f) for f in found], indent=2) if arguments.json else
          "\n\n".join(map(side_by_side, found)))  # fmt: skip
    borne_out = all(f.outcome == HOLDS for one in found for f in one.findings)
    return int(arguments.strict and not borne_out)
