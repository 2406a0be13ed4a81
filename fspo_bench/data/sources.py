"""Where a task's rows come from: the files in its folder, their micro version, or its `hub.py` (published
data, not bundled).

`tasks/NAME/hub.py` defines

    Options   a frozen dataclass of its settings (`--set key=value`)
    load      load(data_dir, options) -> Rows, from the folder given or from the Hub
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fspo_bench.data.micro import micro
from fspo_bench.data.task_files import load_task, read_spec
from fspo_bench.data.tasks import Rows, Task
from fspo_bench.errors import UserError
from fspo_bench.packs import load_module
from fspo_bench.settings import names_of, replaced
from fspo_bench.store import digest, file_sha256


def source_of(folder: Path, source: str | None = None, data_dir: Path | None = None) -> str:
    """`bundled`, `micro` or `hub`: as asked for; else the hub where a task has no files, or data are given.

    Raises:
        UserError: the task has no such source.
    """
    bundled, hub = any(folder.glob("users.jsonl*")), (folder / "hub.py").is_file()
    chosen = source or ("hub" if hub and (data_dir or not bundled) else "bundled")
    if chosen == "hub" and not hub:
        raise UserError(f"task {folder.name} has no published data to load; leave --source hub out")
    if chosen != "hub" and data_dir:
        raise UserError(f"task {folder.name}: --data-dir belongs to --source hub, and the source is {chosen}")
    if chosen != "hub" and hub and not bundled:
        raise UserError(f"task {folder.name} comes with no data; leave --source {chosen} out")
    return chosen


def option_names(folder: Path, source: str | None = None, data_dir: Path | None = None) -> set[str]:
    """The settings that a task's source takes."""
    return names_of(_hub(folder).Options) if source_of(folder, source, data_dir) == "hub" else set()


def open_task(
    folder: Path,
    source: str | None = None,
    data_dir: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Task:
    """Read a task from its source.

    Raises:
        UserError: naming what is wrong, and where.
    """
    if (chosen := source_of(folder, source, data_dir)) != "hub":
        stamp = tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in sorted(folder.iterdir()))
        return _from_files(folder, chosen, stamp)
    module = _hub(folder)
    options = replaced(module.Options(), settings or {})
    if data_dir and not data_dir.is_dir():
        raise UserError(f"--data-dir: no folder '{data_dir}'")
    rows = module.load(data_dir, options)
    key = [file_sha256(folder / "task.yaml"), file_sha256(folder / "hub.py"), asdict(options)]
    return _task(folder, rows, key)


@lru_cache(maxsize=16)
def _from_files(folder: Path, chosen: str, stamp: tuple[tuple[str, int, int], ...]) -> Task:
    """A grid opens a task for every run; `stamp` changes with the files."""
    return micro(load_task(folder)) if chosen == "micro" else load_task(folder)


def _hub(folder: Path) -> ModuleType:
    return load_module(folder / "hub.py", "hub", folder.name)


def _task(folder: Path, rows: Rows, key: list[Any]) -> Task:
    parts = (rows.users, rows.questions, rows.preferences)
    if not all(parts):
        raise UserError(f"task {folder.name}: the data hold no preferences that can be used")
    key += [[row.model_dump() for row in part] for part in parts]
    return Task(
        name=folder.name,
        folder=folder,
        spec=read_spec(folder),
        users={u.user_id: u for u in rows.users},
        questions={q.question_id: q for q in rows.questions},
        answers={},
        rows=tuple(rows.preferences),
        hash=digest(key),
        note=rows.note,
    )
