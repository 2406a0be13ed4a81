"""From what was typed to the runs that it means: every method on every task with every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fspo_bench.data.sources import open_task, option_names, source_of
from fspo_bench.errors import UserError
from fspo_bench.judge.opening import Chosen
from fspo_bench.lm.models import SHIPPED
from fspo_bench.method import open_methods, own_settings
from fspo_bench.packs import Found, Pack, builtin_root, find_methods, find_tasks, resolve
from fspo_bench.presets import Preset, preset
from fspo_bench.settings import names_of

if TYPE_CHECKING:
    from fspo_bench.run import Request

ALL, RELEASED = "all", "released"


@dataclass(frozen=True)
class Wanted:
    """What was typed."""

    methods: Sequence[str]
    tasks: Sequence[str]
    preset: str = "cpu"
    model: str = ""
    seeds: Sequence[int] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    data_dir: Path | None = None
    limit: int | None = None
    init: str | None = None
    runs: Path = Path("runs")
    judge: Chosen = field(default_factory=Chosen)


def plan(wanted: Wanted, packs: Sequence[Pack], command: str) -> list[Request]:
    """A request for each run, those of one task and seed together.

    Raises:
        UserError: a name, a setting or a value that nothing knows.
    """
    budget = preset(wanted.preset)
    source = wanted.source or budget.source or None
    budget = replace(budget, model=wanted.model or budget.model, source=source or "")
    if budget.model in SHIPPED and source != "micro":
        raise UserError(
            f"model '{budget.model}' knows the words of micro versions only; add --source micro, or take "
            "--preset tiny"
        )
    every = find_methods(packs)
    methods = _named(wanted.methods, every, "method")
    folders = [found.path for found in named_tasks(wanted.tasks, packs, wanted.data_dir)]
    of_tasks = {n for f in folders for n in option_names(f, source, wanted.data_dir)}
    opened = open_methods(methods, budget, wanted.settings, of_tasks, every)
    tasks = [open_task(f, source, wanted.data_dir, wanted.settings) for f in folders]

    from fspo_bench.run import Request  # torch only once the input is known to be good

    return [
        Request(task, method, its_preset, seed, wanted.limit, _init(wanted.init, task.name, method.name),
                wanted.runs, command, wanted.judge)
        for task in tasks
        for seed in wanted.seeds
        for method, its_preset in opened
    ]  # fmt: skip


def cells(wanted: Wanted, packs: Sequence[Pack]) -> list[Wanted]:
    """What to ask for to get each run alone, in the order of `plan`: the same from any folder.

    A cell keeps the settings that its method, its task or the budget takes.
    """
    every = find_methods(packs)
    methods = _named(wanted.methods, every, "method")
    tasks = named_tasks(wanted.tasks, packs, wanted.data_dir)
    model = Path(wanted.model).expanduser()
    anywhere = replace(
        wanted,
        model=str(model.resolve()) if wanted.model and model.is_dir() else wanted.model,
        data_dir=wanted.data_dir and wanted.data_dir.resolve(),
        init=str(Path(wanted.init).resolve()) if wanted.init not in (None, RELEASED) else wanted.init,
        runs=wanted.runs.resolve(),
    )
    found = []
    for task in tasks:
        taken = names_of(Preset) | option_names(task.path, wanted.source, wanted.data_dir)
        for seed in wanted.seeds:
            for m in methods:
                its = taken | own_settings(m, wanted.settings, every)
                settings = {key: value for key, value in wanted.settings.items() if key in its}
                found.append(
                    replace(
                        anywhere, methods=[_typed(m, every)], tasks=[_typed(task, tasks)], seeds=[seed],
                        settings=settings,
                    )
                )  # fmt: skip
    return found


def _typed(found: Found, among: Sequence[Found]) -> str:
    """What to type for it."""
    if found.pack == "path":
        return str(found.path)
    alone = sum(f.name == found.name for f in among) == 1
    return found.name if alone else f"{found.pack}/{found.name}"


def named_tasks(names: Sequence[str], packs: Sequence[Pack], data_dir: Path | None) -> list[Found]:
    """Tasks by name or folder; "all" are those that have data."""
    found = _named(names, find_tasks(packs), "task")
    return found if data_dir or ALL not in names else [f for f in found if source_of(f.path) == "bundled"]


def _named(names: Sequence[str], among: Sequence[Found], what: str) -> list[Found]:
    if ALL in names:
        if len(names) > 1:
            raise UserError(f"--{what} all: holds every other one; leave the rest out")
        return list(among)
    return [resolve(name, among, what) for name in names]


def _init(given: str | None, task: str, method: str) -> Path | None:
    if given is None:
        return None
    released = builtin_root() / "leaderboards" / "released" / f"{task}-{method}"
    folder = released if given == RELEASED else Path(given)
    if not folder.is_dir():
        what = f"no released weights for {method} on {task}" if given == RELEASED else f"no folder '{given}'"
        raise UserError(f"--init: {what}; give a folder of trained weights")
    return folder
