"""The paper's tables run again: every row, ours beside the paper's, and the paper's claims tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.evaluate.compare import mean_of, read_run
from fspo_bench.evaluate.metrics import TRAINED
from fspo_bench.evaluate.results import Metric
from fspo_bench.evaluate.stats import Estimate
from fspo_bench.leaderboard.claims import MARGIN, Finding, Wins, less, outcome, paired, pooled, unpaired
from fspo_bench.leaderboard.diversity import likeness
from fspo_bench.leaderboard.paper import Claim, PaperTable, Row
from fspo_bench.leaderboard.tables import shown
from fspo_bench.packs import Pack
from fspo_bench.plan import Wanted, plan
from fspo_bench.presets import Preset
from fspo_bench.run import Request, located
from fspo_bench.store import Store

T = TypeVar("T")
Cell = tuple[str, str]  # row, task


@dataclass(frozen=True)
class Reproduced:
    """A table's own win rates and what becomes of its claims."""

    table: PaperTable
    title: str
    ours: dict[tuple[str, str], Estimate]
    """By row and column."""
    findings: list[Finding]
    seeds: int


def wanted_of(table: PaperTable, wanted: Wanted) -> dict[Cell, Wanted]:
    """What to ask for behind each row, on each task; a setting that was given goes before the row's own.

    Raises:
        UserError: a table that no run can make.
    """
    tasks = list(dict.fromkeys(c.task for c in table.columns.values() if c.task))
    rows = [row for row in table.rows if row.method or row.answers]
    if not (tasks and rows):
        raise UserError(f"table '{table.title}' has no rows that a run makes")
    return {
        (row.id, task): replace(wanted, methods=[row.method or "base"], tasks=[task],
                                settings={**row.set, **wanted.settings})
        for task in tasks
        for row in rows
    }  # fmt: skip


def requests_of(
    table: PaperTable, wanted: Wanted, packs: Sequence[Pack], command: str
) -> dict[Cell, list[Request]]:
    """The runs behind each row, one a seed.

    A row of answers whose likeness is measured needs no run; its request says of which task and model.

    Raises:
        UserError: a table that no run can make.
    """
    return {cell: plan(w, packs, command) for cell, w in wanted_of(table, wanted).items()}


def that_run(table: PaperTable, cells: Mapping[Cell, T]) -> list[T]:
    """What belongs to rows of which there are runs."""
    return [those for (row, _), those in cells.items() if table.row(row).method]


def reproduced(table: PaperTable, cells: Mapping[Cell, Sequence[Request]], store: Store) -> Reproduced:
    """Read the finished runs behind each row and test the claims."""
    wins: dict[tuple[str, str], Wins] = {}
    for (row, task), requests in cells.items():
        columns = {name: c for name, c in table.columns.items() if c.task == task}
        if kind := table.row(row).answers:
            found = likeness(kind, requests[0].task, requests[0].preset, store)
            wins |= {(row, name): found[name] for name in columns}
            continue
        runs = [read_run(str(located(r, store).folder), r.runs) for r in requests]
        for name, column in columns.items():
            wins[row, name] = _of_group(pooled(runs), requests[0].task, column.group)
    a_request = next(iter(cells.values()))[0]
    return Reproduced(
        table, title_of(a_request.preset), {cell: mean_of(w) for cell, w in wins.items()},
        [
            replace(f, confounded=table.confounded.get(claim.text, ""))
            for claim in table.parsed_claims
            for f in _findings(claim, wins, list(table.columns))
        ],
        max(map(len, cells.values())),
    )  # fmt: skip


def title_of(preset: Preset) -> str:
    """What figures of this budget are."""
    if preset.source == "micro":
        return "a mechanism check in a made-up language of a few hundred words, not a measurement"
    return f"model {preset.model}, preset {preset.name}"


def _of_group(wins: Wins, task: Task, group: str) -> Wins:
    if not group:
        return wins
    return {p: w for p, w in wins.items() if (task.users[p[0]].split == "seen") == (group == TRAINED)}


def _findings(
    claim: Claim, wins: Mapping[tuple[str, str], Wins], columns: Sequence[str]
) -> Iterator[Finding]:
    def side(row: str, column: str) -> Wins:
        own = wins[row, column]
        return less(own, wins[claim.beside, column]) if claim.beside else own

    if claim.better_column != claim.worse_column:
        better, worse = side(claim.better, claim.better_column), side(claim.worse, claim.worse_column)
        difference = unpaired(better, worse)
        yield Finding(claim.text, "", outcome(difference, claim.strict), difference, None)
        return
    for column in [claim.better_column] if claim.better_column else columns:
        difference, p = paired(side(claim.better, column), side(claim.worse, column))
        yield Finding(claim.text, column, outcome(difference, claim.strict), difference, p)


def side_by_side(found: Reproduced) -> str:
    """Paper and ours, then the claims."""
    columns = list(found.table.columns)
    width = max(len(row.name) for row in found.table.rows)
    head = "".join(f"  {c + ': paper':<19} {'ours':<24}" for c in columns)
    lines = [f"{found.table.title}: {found.title}", f"{'':<{width}}{head}".rstrip()]
    for row in found.table.rows:
        pairs = [(_paper(row, c), _ours(found.ours.get((row.id, c)))) for c in columns]
        cells = "".join(f"  {paper:<19} {ours:<24}" for paper, ours in pairs)
        lines.append(f"{row.name:<{width}}{cells}".rstrip())
    n = next(iter(found.ours.values()))
    lines += [
        f"{_counts(n, found.table)}; * from a summary that the authors did not write",
        f"seeds: {found.seeds}; 95% intervals by {found.table.unit}",
        "",
    ]
    wide = max((len(f.claim) for f in found.findings), default=0)
    for f in found.findings:
        d, p = f.difference, "" if f.p is None else f", p {f.p:.4f}"
        where = f" on {f.column}" if len(columns) > 1 and f.column else ""
        aside = f"; counts for nothing: {f.confounded}" if f.confounded else ""
        lines.append(
            f"{f.outcome:<15} {f.claim:<{wide}}{where}: {d.value:+.1f} [{d.low:+.1f}, {d.high:+.1f}]"
            f"{p} ({d.n_users} {found.table.unit}s){aside}"
        )
    lines.append(f"> : the whole interval is above 0; >= : above -{MARGIN:g} points.")
    return "\n".join(lines)


def _counts(n: Estimate, table: PaperTable) -> str:
    users = f"{n.n_users} users, " if table.unit == "user" else ""
    return f"{users}{n.n_questions} questions, {n.n:,} judgements a row and seed"


def dumped(found: Reproduced) -> dict[str, Any]:
    """The same for machines."""
    return {
        "table": found.table.title,
        "title": found.title,
        "seeds": found.seeds,
        "rows": [
            {
                "row": row.id,
                "column": column,
                "paper": row.paper.get(column),
                "secondary": row.secondary,
                "ours": Metric.of(found.ours[row.id, column]).model_dump(),
            }
            for row in found.table.rows
            for column in found.table.columns
            if (row.id, column) in found.ours
        ],
        "claims": [
            {
                "claim": f.claim,
                "column": f.column,
                "outcome": f.outcome,
                "difference": Metric.of(f.difference).model_dump(),
                "p": f.p,
                "confounded": f.confounded,
            }
            for f in found.findings
        ],
    }


def _paper(row: Row, column: str) -> str:
    if column not in row.paper:
        return "-"
    return f"{row.paper[column]:.1f}" + ("*" if row.secondary else "")


def _ours(e: Estimate | None) -> str:
    return shown(None if e is None else Metric.of(e))
