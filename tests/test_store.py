"""The content-addressed store: same key same value, whole values only, digests that see everything."""

import hashlib
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fspo_bench.store import Store, building, digest, file_sha256, home, write_atomic

LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every leaf."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in leaves(v, (*path, k))]
    if isinstance(value, list):
        return [p for k, v in enumerate(value) for p in leaves(v, (*path, k))]
    return [path]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = deepcopy(value)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return copy


@given(JSON)
def test_digest_changes_with_any_nested_value(value: Any) -> None:
    before = digest(value)
    for path in leaves(value):
        assert digest(replaced(value, path, "another value")) != before, path


def test_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    different = [{"a": [1, 2]}, {"a": [2, 1]}, {"a": ["1", 2]}, {"a": [12]}, {"a": [[1], 2]}, {"b": [1, 2]}]
    assert len({digest(v) for v in different}) == len(different)


def test_digest_is_the_sha256_of_compact_json() -> None:
    """Pinned: a change of spelling would silently empty every user's store."""
    assert digest({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()


def test_file_sha256_reads_past_one_block(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    tmp_path.joinpath("f").write_bytes(data)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("value", [[1, 2.5, "é"], {"a": [None]}, "", 0, False, []])
def test_a_key_gives_back_its_value(value: Any) -> None:
    Store().put("k" * 64, value)
    assert Store().get("k" * 64) == value  # another process's Store
    assert Store().get("l" * 64) is None


def test_the_store_lies_under_home(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store().put("ab12", 1)
    assert own_home / "store" / "ab" / "ab12.json" in own_home.rglob("*.json")
    monkeypatch.delenv("FSPO_BENCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert home() == Path("/cache/fspo-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path.home() / ".cache/fspo-bench"


@pytest.mark.parametrize("crash", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_replace_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: BaseException
) -> None:
    def replace(self: Path, target: Path) -> None:
        assert self.read_text() == "new"  # the whole text was written aside first
        raise crash

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(type(crash)):
        write_atomic(tmp_path / "deep" / "file", "new")
    assert names(tmp_path) == ["deep"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "file", "new \ud800")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_process_killed_before_the_replace_stored_nothing(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from fspo_bench.store import Store\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "Store(Path(sys.argv[1])).put('ab', 'half')"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    store = Store(tmp_path)
    assert store.get("ab") is None
    store.put("ab", "whole")
    assert store.get("ab") == "whole"


def test_a_written_file_has_the_modes_of_any_other(tmp_path: Path) -> None:
    """Not a temporary file's 0600: records and stores are shared."""
    tmp_path.joinpath("plain").write_text("x")
    write_atomic(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_building_moves_a_finished_folder_into_place(tmp_path: Path) -> None:
    final = tmp_path / "models" / "m"
    with building(final) as scratch:
        scratch.joinpath("weights").write_text("w")
        assert not final.exists()
    assert names(tmp_path) == ["models", "models/m", "models/m/weights"]


@pytest.mark.parametrize("crash", [ValueError, KeyboardInterrupt])
def test_building_removes_the_scratch_on_failure(tmp_path: Path, crash: type[BaseException]) -> None:
    with pytest.raises(crash), building(tmp_path / "m") as scratch:
        scratch.joinpath("half").write_text("h")
        raise crash
    assert names(tmp_path) == []


def test_building_keeps_the_winner_of_a_race(tmp_path: Path) -> None:
    with building(tmp_path / "m") as slow:
        slow.joinpath("weights").write_text("slow")
        with building(tmp_path / "m") as fast:
            fast.joinpath("weights").write_text("fast")
    assert (tmp_path / "m" / "weights").read_text() == "fast"
    assert names(tmp_path) == ["m", "m/weights"]


def test_a_folder_exists_only_once_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.partial_path("k").mkdir(parents=True)
    store.partial_path("k").joinpath("step").write_text("1")
    assert not store.has_folder("k")
    assert store.finish_folder("k") == store.folder_path("k")
    assert store.has_folder("k")
    assert (store.folder_path("k") / "step").read_text() == "1"
    assert not store.partial_path("k").exists()


def test_finishing_a_folder_that_another_process_finished_keeps_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for text in ("first", "second"):
        store.partial_path("k").mkdir(parents=True)
        store.partial_path("k").joinpath("w").write_text(text)
        store.finish_folder("k")
    assert (store.folder_path("k") / "w").read_text() == "first"
    assert not store.partial_path("k").exists()


def test_a_key_is_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    """The second waits for the first, and the lock of a killed one holds nobody up."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom fspo_bench.store import Store\n"
        "with Store(Path(sys.argv[1])).alone('k'):\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdout.readline() == "in\n"
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr and second.stderr.readline().startswith("waiting for another process")
            first.kill()
            assert second.stdout and second.stdout.readline() == "in\n"
            second.kill()
