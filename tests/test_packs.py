"""Packs: the folder is the registry, third parties stand beside it, and listing runs nothing."""

import os
import sys
from pathlib import Path

import pytest

from fspo_bench import packs as module
from fspo_bench.errors import UserError
from fspo_bench.packs import Found, docstring, find_methods, find_tasks, load_method, packs, resolve
from tests.conftest import write_task

EXPLODES = '"""Explodes on import."""\n\nraise RuntimeError("a listing ran me")\n'
WORKS = '"""Works."""\n\nSEES = ()\n\n\nclass Config: ...\n\n\ndef context(seen, config):\n    return "hi"\n'


def make_pack(root: Path, method: str = "mine", source: str = WORKS, kind: str = "methods") -> Path:
    root.joinpath(kind).mkdir(parents=True, exist_ok=True)
    root.joinpath(kind, f"{method}.py").write_text(source)
    return root


def install(monkeypatch: pytest.MonkeyPatch, site: Path, package: str, value: str) -> None:
    """A distribution on sys.path that offers `value` as a pack."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[{module.ENTRY_POINT_GROUP}]\nplugged = {value}\n")
    monkeypatch.syspath_prepend(str(site))


def names(found: list[Found]) -> set[str]:
    return {f"{f.pack}/{f.name}" for f in found}


def test_the_checkout_is_the_first_pack() -> None:
    assert packs()[0].name == "fspo-bench"
    assert "fspo-bench/roleplay" in names(find_tasks(packs()))
    kinds = {f.name: f.kind for f in find_methods(packs())}
    assert kinds["fspo"] == "method"
    assert kinds["base"] == "baseline"


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_a_third_party_folder_stands_beside_the_built_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    root = make_pack(tmp_path / "theirs")
    make_pack(root, "control", kind="baselines")
    write_task(root / "tasks" / "their_task")
    if way == "environment":
        monkeypatch.setenv("FSPO_BENCH_PACKS", os.pathsep.join(["", str(root)]))
    where = packs([str(root)] if way == "flag" else [])
    assert {"theirs/mine", "theirs/control", "fspo-bench/fspo"} <= names(find_methods(where))
    assert {"theirs/their_task", "fspo-bench/roleplay"} <= names(find_tasks(where))
    found = resolve("their_task", find_tasks(where), "task")
    assert (found.kind, found.path) == ("task", root / "tasks" / "their_task")


def test_a_folder_that_is_no_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"'{tmp_path}' has none of tasks/, methods/, baselines/"):
        packs([str(tmp_path)])


def test_an_installed_pack_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(tmp_path / "plugged_pack")
    tmp_path.joinpath("plugged_pack", "__init__.py").write_text(EXPLODES)
    install(monkeypatch, tmp_path, "plugged_pack", "plugged_pack")
    assert "plugged/mine" in names(find_methods(packs()))
    assert "plugged_pack" not in sys.modules


def test_a_pack_inside_an_installed_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(tmp_path / "plugged_outer" / "pack")
    tmp_path.joinpath("plugged_outer", "__init__.py").write_text(EXPLODES)
    tmp_path.joinpath("plugged_outer", "pack", "__init__.py").write_text("")
    install(monkeypatch, tmp_path, "plugged_outer", "plugged_outer.pack")
    assert "plugged/mine" in names(find_methods(packs()))
    assert "plugged_outer" not in sys.modules


def test_listing_never_runs_a_file(tmp_path: Path) -> None:
    where = packs([str(make_pack(tmp_path / "theirs", "explodes", EXPLODES))])
    found = resolve("explodes", find_methods(where), "method")
    assert docstring(found) == "Explodes on import."
    with pytest.raises(RuntimeError, match="a listing ran me"):
        load_method(found)  # the file does explode when run


def test_a_file_that_is_not_python_still_lists(tmp_path: Path) -> None:
    where = packs([str(make_pack(tmp_path / "theirs", "broken", "def (:\n"))])
    assert isinstance(docstring(resolve("broken", find_methods(where), "method")), str)


def test_helpers_with_an_underscore_are_not_listed(tmp_path: Path) -> None:
    where = packs([str(make_pack(tmp_path / "theirs", "_shared"))])
    assert "theirs/_shared" not in names(find_methods(where))


def test_a_name_clash_names_both(tmp_path: Path) -> None:
    where = packs([str(make_pack(tmp_path / "theirs", "fspo"))])
    with pytest.raises(UserError, match=r"method 'fspo' is in several packs: fspo-bench/fspo, theirs/fspo"):
        resolve("fspo", find_methods(where), "method")
    assert resolve("theirs/fspo", find_methods(where), "method").path == tmp_path / "theirs/methods/fspo.py"
    assert resolve("fspo-bench/fspo", find_methods(where), "method").pack == "fspo-bench"


def test_a_pack_given_twice_is_one_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_pack(tmp_path / "theirs")
    monkeypatch.setenv("FSPO_BENCH_PACKS", str(root))
    assert resolve("mine", find_methods(packs([str(root)])), "method").name == "mine"


def test_a_path_names_a_thing_of_no_pack(tmp_path: Path, made_task: Path) -> None:
    file = make_pack(tmp_path / "theirs") / "methods" / "mine.py"
    assert resolve(str(file), [], "method") == Found("mine", "method", "path", file)
    assert resolve(str(made_task), [], "task") == Found("made", "task", "path", made_task)


def test_a_relative_path_has_a_name_and_a_place(made_task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made_task)
    assert resolve(".", [], "task") == Found("made", "task", "path", made_task)


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    methods = find_methods(packs())
    with pytest.raises(UserError, match=r"unknown method 'fsop', did you mean 'fspo'\?"):
        resolve("fsop", methods, "method")
    with pytest.raises(UserError, match=r"unknown method 'zzzzzz' \(known: base, .*\bfspo\b.*\)"):
        resolve("zzzzzz", methods, "method")
    with pytest.raises(UserError, match=r"unknown method '.*missing\.py'"):
        resolve(str(tmp_path / "missing.py"), methods, "method")


def test_loading_runs_the_one_file_asked_for(tmp_path: Path) -> None:
    root = make_pack(tmp_path / "theirs")
    make_pack(root, "explodes", EXPLODES)
    loaded = load_method(resolve("mine", find_methods(packs([str(root)])), "method"))
    assert loaded.context(None, None) == "hi"


def test_a_file_that_lacks_parts_of_a_method_is_named(tmp_path: Path) -> None:
    file = make_pack(tmp_path / "theirs", source="SEES = ()\n") / "methods" / "mine.py"
    with pytest.raises(UserError, match=rf"{file} is no method: it lacks Config, context"):
        load_method(resolve(str(file), [], "method"))


def test_methods_of_one_name_in_two_packs_do_not_mix(tmp_path: Path) -> None:
    loaded = [
        load_method(f)
        for name in ("one", "two")
        for f in find_methods(packs([str(make_pack(tmp_path / name, source=WORKS.replace("hi", name)))]))
        if f.pack == name
    ]
    assert [m.context(None, None) for m in loaded] == ["one", "two"]
    assert sys.modules[loaded[0].__name__] is loaded[0]
