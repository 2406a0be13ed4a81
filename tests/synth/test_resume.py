"""Killed anywhere and given again: the same bytes, and no finished call is made twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fspo_bench.errors import Stopped, UserError
from fspo_bench.judge.calls import Budget
from fspo_bench.judge.spec import Price
from fspo_bench.synth import files, stage
from fspo_bench.synth.files import Journal, Shard
from tests.synth.scripted import THINGS, Script, Scripted, domain, serving, synthesis

SIZES: dict[str, Any] = {
    "questions": {"kinds": [{**THINGS, "count": 9}]},
    "users": {"count": 6},
    "labels": {"questions": 5, "test_questions": 2},
}


class Killed(BaseException):
    """What a kill is to the code: nothing that it handles."""


def bytes_of(out: Path) -> dict[str, bytes]:
    """Every file of a task and its stages, but for the clock's and scratch files that a kill leaves."""
    found = sorted(f for f in out.rglob("*") if f.is_file() and not f.name.startswith(("usage.", ".")))
    return {str(file.relative_to(out)): file.read_bytes() for file in found}


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several windows in each stage, as in a large domain."""
    monkeypatch.setattr(stage, "CALLS", 24)
    monkeypatch.setattr("fspo_bench.synth.runner.CALLS", 24)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """The bytes of a run that nothing disturbs, and its calls."""
    out, model = tmp_path_factory.mktemp("whole") / "out", Scripted()
    synthesis(out, model, **SIZES).run()
    return bytes_of(out), model.asked


def dies_at(count: int) -> Callable[[], None]:
    left = [count]

    def stop() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return stop


@pytest.mark.parametrize("part", range(12))
def test_killed_at_a_call_of_any_stage(
    tmp_path: Path, whole: tuple[dict[str, bytes], int], part: int
) -> None:
    expected, calls = whole
    at = calls * part // 12
    first, second = Scripted(stop=dies_at(at)), Scripted()
    with pytest.raises(Killed):
        synthesis(tmp_path / "out", first, **SIZES).run()
    assert not (tmp_path / "out" / "task.yaml").exists()
    synthesis(tmp_path / "out", second, **SIZES).run()
    assert bytes_of(tmp_path / "out") == expected
    assert second.asked == calls - at


def test_killed_before_any_change_of_a_file(
    tmp_path: Path, whole: tuple[dict[str, bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rename, removal and truncation in turn."""
    left = [10**9]

    def mortal(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def change(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, change)

    for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "truncate"), (Path, "rmdir")):
        mortal(owner, name)
    for changes in range(200):
        out, first, second = tmp_path / str(changes) / "out", Scripted(), Scripted()
        left[0] = changes
        try:
            synthesis(out, first, **SIZES).run()
            break
        except Killed:
            left[0] = 10**9
        synthesis(out, second, **SIZES).run()
        assert bytes_of(out) == whole[0], changes
        assert first.asked + second.asked == whole[1], changes
    assert 30 < changes < 199


def test_a_torn_line_of_the_journal_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "calls.jsonl")
    journal.put("a", {"text": "é\ud800"})
    journal.put("b", {"text": "two"})
    journal.close()
    whole = (tmp_path / "calls.jsonl").read_bytes()
    (tmp_path / "calls.jsonl").write_bytes(whole[:-3])
    again = Journal(tmp_path / "calls.jsonl")
    assert again.get("a") == {"text": "é\ud800"}
    assert not again.has("b")
    again.put("b", {"text": "two"})
    again.close()
    assert (tmp_path / "calls.jsonl").read_bytes() == whole


@pytest.mark.parametrize("stage_name", ["responses", "labels"])
def test_a_killed_process_goes_on(
    tmp_path: Path, stage_name: str, whole: tuple[dict[str, bytes], int]
) -> None:
    """SIGKILL while a server is asked by the command line: the same bytes as in one go."""
    file = tmp_path / "domain.yaml"
    file.write_text(yaml.safe_dump(domain(**SIZES).model_dump(mode="json")), encoding="utf-8")
    out = tmp_path / "out"
    with serving(Script()) as server:
        argv = [
            sys.executable,
            "-c",
            CHILD,
            str(file),
            "--model",
            f"openai/scripted@{server.url}",
            "--out",
            str(out),
        ]
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        journal = out / ".synth" / f"calls.{stage_name}.jsonl"
        while process.poll() is None and time.monotonic() < until and not _begun(journal):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert journal.exists() and not (out / "task.yaml").exists()
    synthesis(out, Scripted(), **SIZES).run()
    assert bytes_of(out) == whole[0]


CHILD = """
import sys
import fspo_bench.cli, fspo_bench.synth.runner, fspo_bench.verbs.synthesis
from tests.synth.scripted import letters
fspo_bench.verbs.synthesis._embed = letters
fspo_bench.synth.runner.CALLS = 24
sys.exit(fspo_bench.cli.main(["synth", *sys.argv[1:]]))
"""


def _begun(journal: Path) -> bool:
    try:
        return journal.stat().st_size > 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("of", [2, 3, 7])
def test_shards_in_any_order_give_the_same_bytes(
    tmp_path: Path, whole: tuple[dict[str, bytes], int], of: int
) -> None:
    expected, calls = whole
    asked = 0
    for _ in range(4):
        for number in range(of, 0, -1):
            model = Scripted()
            synthesis(tmp_path / "out", model, Shard(number, of), **SIZES).run()
            asked += model.asked
    assert bytes_of(tmp_path / "out") == expected
    assert asked == calls


@pytest.mark.parametrize("items", [0, 1, 5, 100])
@pytest.mark.parametrize("of", [1, 3, 8])
def test_shards_are_all_items_once(items: int, of: int) -> None:
    assert [n for k in range(1, of + 1) for n in Shard(k, of).range(items)] == list(range(items))


def test_a_finished_task_asks_nothing(tmp_path: Path) -> None:
    figures = synthesis(tmp_path / "out", Script(), **SIZES).run()
    model = Scripted()
    assert synthesis(tmp_path / "out", model, **SIZES).run() == figures
    assert model.asked == 0


def test_another_plan_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    synthesis(tmp_path / "out", Script(), **SIZES).run()
    before = bytes_of(tmp_path / "out")
    with pytest.raises(UserError, match=r"another plan \(other seed, labels\)"):
        synthesis(tmp_path / "out", Script(), **{**SIZES, "labels": {"questions": 7}, "seed": 1}).run()
    with pytest.raises(UserError, match=r"another plan \(other models\)"):
        synthesis(tmp_path / "out", Scripted(key="openai/other"), **SIZES).run()
    assert bytes_of(tmp_path / "out") == before
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="was not made by synth"):
        synthesis(tmp_path / "taken", Script()).run()


def test_the_budget_is_never_passed_and_the_same_command_goes_on(
    tmp_path: Path, whole: tuple[dict[str, bytes], int]
) -> None:
    """A call costs 100 tokens x $10 + 10 x $10 per million."""
    prices = {"openai/scripted": Price(input=10, output=10)}
    asked = 0
    for _ in range(60):
        model = Scripted()
        run = synthesis(tmp_path / "out", model, **SIZES, prices=prices)
        run.budget = Budget(0.05)
        try:
            run.run()
            break
        except Stopped as stopped:
            assert "--max-cost 0.05 reached" in str(stopped)
            assert model.asked * 0.0011 == pytest.approx(run.budget.spent)
            assert 0 < run.budget.spent <= 0.05
        finally:
            asked += model.asked
    assert asked == whole[1]
    made = bytes_of(tmp_path / "out")
    assert {k: v for k, v in made.items() if k != ".synth/domain.yaml"} == {
        k: v for k, v in whole[0].items() if k != ".synth/domain.yaml"
    }


def test_two_processes_never_make_the_same_part(tmp_path: Path) -> None:
    first = Journal(tmp_path / "calls.labels.jsonl")
    with pytest.raises(Stopped, match="is in use: another process makes this part"):
        Journal(tmp_path / "calls.labels.jsonl")
    first.close()
    Journal(tmp_path / "calls.labels.jsonl").close()


def test_rows_are_read_by_number(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"n": 0}\n{"n": 1, "t": "é"}\n{"n": 2}\n', encoding="utf-8")
    rows = files.Lines(tmp_path / "rows.jsonl")
    assert len(rows) == 3
    assert [rows[n]["n"] for n in (2, 0, 1)] == [2, 0, 1]
    assert rows.some(1, 3) == [{"n": 1, "t": "é"}, {"n": 2}]
    assert rows.some(3, 3) == []
