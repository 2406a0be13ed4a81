"""Packs: folders with `tasks/`, `methods/`, `baselines/`, `judges/`. This repository is the first one.

The folder is the registry: a task is `tasks/NAME/task.yaml`, a method is `methods/NAME.py`, a judge is
`judges/NAME/judge.yaml`.
Finding and listing never execute what they find; only `load_method` runs a file, the one asked for.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from fspo_bench.errors import UserError, did_you_mean

KINDS = ("methods", "baselines")
ENTRY_POINT_GROUP = "fspo_bench.packs"


@dataclass(frozen=True)
class Pack:
    """A named folder holding tasks, methods, baselines and judges."""

    name: str
    root: Path


@dataclass(frozen=True)
class Found:
    """Something a pack offers: `path` is a task's or judge's folder or a method's file."""

    name: str
    kind: str
    pack: str
    path: Path


def builtin_root() -> Path:
    """The pack shipped with the library: inside the wheel, or the checkout around it."""
    package = Path(__file__).parent
    wheel = package / "builtin"
    return wheel if wheel.is_dir() else package.parent


def _builtin() -> Pack:
    return Pack("fspo-bench", builtin_root())


def packs(extra: Sequence[str] = ()) -> list[Pack]:
    """The built-in pack, installed ones (entry points), `FSPO_BENCH_PACKS`, then `extra` folders."""
    found = [_builtin()]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        top, *inner = point.value.split(".")
        spec = importlib.util.find_spec(top)  # of a top-level package: runs nothing
        if spec and spec.submodule_search_locations:
            found.append(Pack(point.name, Path(next(iter(spec.submodule_search_locations)), *inner)))
    from_environment = [p for p in os.environ.get("FSPO_BENCH_PACKS", "").split(os.pathsep) if p]
    for folder in [*from_environment, *extra]:
        root = Path(folder).expanduser().resolve()
        if not any((root / part).is_dir() for part in ("tasks", *KINDS, "judges")):
            raise UserError(f"pack folder '{folder}' has none of tasks/, methods/, baselines/, judges/")
        if root not in (pack.root.resolve() for pack in found):
            found.append(Pack(root.name, root))
    return found


def find_tasks(where: Sequence[Pack]) -> list[Found]:
    """Every task of the packs, by name."""
    return _folders(where, "task")


def find_judges(where: Sequence[Pack]) -> list[Found]:
    """Every judge of the packs, by name."""
    return _folders(where, "judge")


def _folders(where: Sequence[Pack], kind: str) -> list[Found]:
    """Folders that hold the file of their kind."""
    return [
        Found(file.parent.name, kind, pack.name, file.parent)
        for pack in where
        for file in sorted((pack.root / f"{kind}s").glob(f"*/{kind}.yaml"))
    ]


def find_methods(where: Sequence[Pack]) -> list[Found]:
    """Every method and baseline of the packs, by name."""
    return [
        Found(file.stem, kind.removesuffix("s"), pack.name, file)
        for pack in where
        for kind in KINDS
        for file in sorted((pack.root / kind).glob("*.py"))
        if not file.stem.startswith("_")
    ]


def resolve(name: str, among: Sequence[Found], what: str) -> Found:
    """The one thing called `name`: a bare name, `pack/name`, or a path to a folder or file."""
    path = Path(name).expanduser()
    if what in ("task", "judge") and (path / f"{what}.yaml").is_file():
        return Found(path.resolve().name, what, "path", path.resolve())
    if what == "method" and path.suffix == ".py" and path.is_file():
        return Found(path.stem, "method", "path", path.resolve())
    hits = [f for f in among if name in (f.name, f"{f.pack}/{f.name}")]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UserError(
            f"{what} '{name}' is in several packs: {', '.join(f'{f.pack}/{f.name}' for f in hits)}"
        )
    raise UserError(f"unknown {what} '{name}'{did_you_mean(name, {f.name for f in among})}")


def docstring(found: Found) -> str:
    """A method file's docstring, read without running it."""
    try:
        return ast.get_docstring(ast.parse(found.path.read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"(not Python: {error.msg}, line {error.lineno})"


def load_module(file: Path, *names: str) -> ModuleType:
    """Run a pack's Python file as a module of its own name."""
    name = ".".join(["fspo_bench_ext", *(part.replace("-", "_") for part in names)])
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses with postponed annotations look themselves up here
    spec.loader.exec_module(module)
    return module


def builtin_method(name: str) -> Found:
    """A method of the library's own pack, for one that builds on it."""
    return resolve(name, find_methods([_builtin()]), "method")


def builtin_judge(name: str) -> Found:
    """A judge of the library's own pack."""
    return resolve(name, find_judges([_builtin()]), "judge")


def load_builtin_method(name: str) -> ModuleType:
    """The module of a method of the library's own pack; name it in BUILDS_ON, so that runs know its bytes."""
    return load_method(builtin_method(name))


def load_method(found: Found) -> ModuleType:
    """Run a method's file and check what it gives."""
    module = load_module(found.path, found.pack, found.kind, found.name)
    needed = ["Config"]
    if not hasattr(module, "CONTROL"):
        needed += ["SEES", "fit" if hasattr(module, "fit") else "context"]
    missing = [part for part in needed if not hasattr(module, part)]
    if missing:
        raise UserError(
            f"{found.path} is no method: it lacks {', '.join(missing)} (see docs/adding-a-method.md)"
        )
    return module
