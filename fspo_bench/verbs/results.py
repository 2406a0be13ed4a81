"""Verbs about finished runs and their judges. Heavy imports stay inside, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fspo_bench.errors import UserError
from fspo_bench.verbs.common import chosen_judge, command, task_of

if TYPE_CHECKING:
    from fspo_bench.evaluate.results import Record
    from fspo_bench.leaderboard.boards import Board

RESULT = "result.json"  # also scoring.RESULT, whose import is slow


def score(arguments: argparse.Namespace) -> None:
    """Judge finished runs by another judge."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.report import table
    from fspo_bench.evaluate.rescore import forecast, rescore
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.store import Store

    chosen = chosen_judge(arguments)
    folders = [run_folder(name, Path(arguments.output_path)) for name in arguments.runs]
    tasks = [
        task_of(arguments.task or record.task, arguments, record)
        for record in (read_record(folder / RESULT) for folder in folders)
    ]
    if arguments.dry_run:
        for folder, task in zip(folders, tasks, strict=True):
            print(f"{folder}: {forecast(folder, task, chosen, Store())}")
        return
    found = [rescore(f, t, chosen, Store(), command()) for f, t in zip(folders, tasks, strict=True)]
    if arguments.json:
        print(json.dumps([one.record.model_dump() for one in found], indent=2))
    else:
        print(table([one.record for one in found]))
        print("\n".join(f"written to {one.folder}" for one in found))


def judge_card(arguments: argparse.Namespace) -> None:
    """Measure a judge on labelled pairs."""
    from fspo_bench.evaluate.judge_cards import card_table, forecast, measured, write_card
    from fspo_bench.store import Store

    chosen = chosen_judge(arguments)
    tasks = [task_of(name, arguments) for name in arguments.task.split(",")]
    if arguments.dry_run:
        for task in tasks:
            print(f"{task.name}: {forecast(chosen, task, arguments.pairs, Store())}")
        return
    cards = [measured(chosen, task, arguments.pairs, Store()) for task in tasks]
    for card in cards if arguments.out else ():
        write_card(card, arguments.out)
    print(json.dumps([c.model_dump() for c in cards], indent=2) if arguments.json else card_table(cards))


def compare(arguments: argparse.Namespace) -> None:
    """Paired differences of finished runs."""
    from fspo_bench.evaluate.compare import comparison, read_run
    from fspo_bench.evaluate.report import comparison_table

    if len(arguments.runs) < 2:
        raise UserError("compare: give at least two runs")
    first, *others = [read_run(name, Path(arguments.output_path)) for name in arguments.runs]
    found = comparison(first, others)
    print(found.model_dump_json(indent=2) if arguments.json else comparison_table(found))


def export(arguments: argparse.Namespace) -> None:
    """Write a run in other tools' files."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.export import export
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.evaluate.scoring import read_outputs

    folder = run_folder(arguments.name, Path(arguments.output_path))
    record = read_record(folder / RESULT)
    task = task_of(arguments.task or record.task, arguments, record)
    try:
        files = export(record, read_outputs(folder), task, arguments.to, arguments.out)
    except OSError as error:
        raise UserError(f"export: cannot write into '{arguments.out}' ({error.strerror})") from None
    print(json.dumps([str(file) for file in files]) if arguments.json else "\n".join(map(str, files)))


def submit(arguments: argparse.Namespace) -> None:
    """Check finished runs, judge their answers again, and add them to the leaderboard's records."""
    from fspo_bench.evaluate.compare import run_folder
    from fspo_bench.evaluate.results import read_record
    from fspo_bench.judge.opening import Chosen
    from fspo_bench.leaderboard.records import submit
    from fspo_bench.packs import find_judges, packs, resolve
    from fspo_bench.store import Store

    files = []
    for name in arguments.runs:
        folder = run_folder(name, Path(arguments.output_path))
        record = read_record(folder / RESULT)
        task = task_of(arguments.task or record.task, arguments, record)
        judge = record.judge.name if record.judge else "offline"
        chosen = Chosen(resolve(judge, find_judges(packs(arguments.pack)), "judge"), _model_of(record))
        files.append(submit(folder, task, chosen, arguments.out / "records", Store()))
    print(json.dumps([str(f) for f in files]) if arguments.json else
          "\n".join([*map(str, files), "next: fspo-bench leaderboard"]))  # fmt: skip


def _model_of(record: Record) -> str:
    return record.judge.model if record.judge else ""


def _page(found: Sequence[Board], arguments: argparse.Namespace) -> Path:
    """The page's index."""
    from fspo_bench.evaluate.judge_cards import read_cards
    from fspo_bench.leaderboard.page import write_page
    from fspo_bench.leaderboard.paper import read_table, table_names

    tasks = {board.task: task_of(board.task, arguments) for board in found}
    papers, cards = [read_table(name) for name in table_names()], read_cards(arguments.out / "judges")
    try:
        return write_page(found, papers, cards, tasks, arguments.html)
    except OSError as error:
        raise UserError(f"--html: cannot write into '{arguments.html}' ({error.strerror})") from None


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--against: cannot read '{file}' ({error.strerror})") from None


def leaderboard(arguments: argparse.Namespace) -> int:
    """Write the tables of the records, or say where the written ones, or an older CSV, differ."""
    from fspo_bench.leaderboard.boards import boards
    from fspo_bench.leaderboard.paper import read_table, table_names
    from fspo_bench.leaderboard.records import read_entries
    from fspo_bench.leaderboard.tables import changes, differing, listing, tables, to_csv, write_tables

    found = boards(read_entries(arguments.out / "records"))
    if arguments.html:
        print(_page(found, arguments))
        return 0
    if arguments.against:
        print(changes(_text_of(arguments.against), to_csv(found)))
        return 0
    files = tables(found, [read_table(name) for name in table_names()], arguments.out)
    if arguments.check:
        stale = differing(files, arguments.out)
        for file in stale:
            print(
                f"{file}: differs from the records; give `fspo-bench leaderboard` and commit what it writes"
            )
        return int(bool(stale))
    write_tables(files, arguments.out)
    print(json.dumps([str(f) for f in files]) if arguments.json else listing(found))
    return 0
