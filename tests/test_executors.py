"""A grid's runs elsewhere: commands that mean the same in any shell, and Ray, which survives lost workers."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fspo_bench.cli import main
from fspo_bench.errors import Stopped, UserError
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.executors import on_ray, run_on_ray, shell_command
from fspo_bench.judge.opening import Chosen
from fspo_bench.packs import Found, Pack, builtin_judge, builtin_root
from fspo_bench.plan import Wanted, cells, plan
from fspo_bench.run import located
from fspo_bench.store import Store
from tests.conftest import write_task
from tests.made import a_record

PACK = [Pack("fspo-bench", builtin_root())]


@pytest.fixture
def wanted(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """A grid with settings that only some of its methods take, in a folder with a blank in its name."""
    monkeypatch.chdir(tmp_path)
    task = write_task(tmp_path / "my tasks" / "made")
    return Wanted(
        ["fspo", "base", "wrong_user", "vpl"], [str(task), "reviews"], "small", str(tiny_model), seeds=[0, 3],
        settings={"loss": "dpo", "lr": 1e-05, "shots": 3, "of": "fspo"}, runs=Path("the runs"), limit=2,
        judge=Chosen(builtin_judge("description"), "openai/it's", 0.5),
    )  # fmt: skip


def test_cells_are_the_plans_runs(wanted: Wanted, tmp_path: Path) -> None:
    store, wanted = Store(tmp_path / "store"), replace(wanted, judge=Chosen())
    alone = [located(request, store) for c in cells(wanted, PACK) for request in plan(c, PACK, "")]
    assert [p.spec for p in alone] == [located(r, store).spec for r in plan(wanted, PACK, "")]
    assert len(alone) == 16
    assert all(p.folder.is_absolute() for p in alone)


def test_a_method_of_two_packs_is_named_with_its_pack(wanted: Wanted, tmp_path: Path) -> None:
    (tmp_path / "theirs" / "methods").mkdir(parents=True)
    shutil.copy(builtin_root() / "methods" / "fspo.py", tmp_path / "theirs" / "methods")
    theirs = Wanted(["theirs/fspo", "base"], ["reviews"])
    found = cells(theirs, [*PACK, Pack("theirs", tmp_path / "theirs")])
    assert [c.methods[0] for c in found] == ["theirs/fspo", "base"]


def test_the_shell_reads_back_what_was_asked_for(
    wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through bash, from another folder, into the parser: the same cell."""
    monkeypatch.setenv("FSPO_BENCH_HOME", str(tmp_path / "a home"))
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "fspo-bench"
    fake.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ['FSPO_BENCH_HOME']]))\n"
    )
    fake.chmod(0o755)
    for cell in cells(wanted, PACK):
        command = shell_command(cell, ["my tasks"])
        done = subprocess.run(
            ["bash", "-c", command], cwd="/", env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}, text=True,
            capture_output=True, check=True,
        )  # fmt: skip
        argv, home = json.loads(done.stdout)
        assert home == str(tmp_path / "a home")
        words = shlex.split(command)
        assert argv == words[words.index("fspo-bench") + 1 :]
        assert argv[-2:] == ["--pack", str(tmp_path / "my tasks")]
        settings = [argv[n + 1] for n, word in enumerate(argv) if word == "--set"]
        assert settings == [f"{k}={v}" for k, v in cell.settings.items()]
        given = dict(zip(argv[1::2], argv[2::2], strict=True))
        assert given["--judge-model"] == "openai/it's"
        assert given["--output-path"] == str(tmp_path / "the runs")
        assert given["--seed"] == str(cell.seeds[0])


def test_no_key_is_passed_on(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://here:1/v1")
    command = shell_command(cells(wanted, PACK)[0])
    assert "sk-secret" not in command
    assert "OPENAI_BASE_URL=http://here:1/v1" in command


def test_print_prints_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["run", "--method", "base,fspo", "--task", "reviews", "--preset", "tiny", "--seeds", "0,1"]
    assert main([*argv, "--executor", "print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(" run --method " in line for line in lines)
    assert main(["reproduce", "reviews", "--preset", "tiny", "--executor", "print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) > 4
    assert not (tmp_path / "runs").exists()


def test_a_judge_of_ones_own_is_named_by_its_path(wanted: Wanted, tmp_path: Path) -> None:
    mine = Chosen(Found("mine", "judge", "path", tmp_path / "mine"))
    (cell, *_) = cells(Wanted(["base"], ["reviews"], judge=mine), PACK)
    assert f"--judge {tmp_path / 'mine'} " in shell_command(cell)


# --- Ray ---


@pytest.fixture
def two_cells(monkeypatch: pytest.MonkeyPatch) -> list[Wanted]:
    return cells(Wanted(["base", "few_shot"], ["reviews"], "tiny"), PACK)


def test_failed_runs_are_told_and_the_others_kept(
    two_cells: list[Wanted], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Record | Exception] = [a_record(), ZeroDivisionError("a method's fault")]

    def ends(work: object, jobs: dict[str, object], *_: object) -> Iterator[tuple[str, Record | Exception]]:
        yield from zip(jobs, outcomes, strict=True)

    monkeypatch.setattr("fspo_bench.executors.on_ray", ends)
    with pytest.raises(Stopped, match=r"1 of 2 runs failed.*few_shot.*ZeroDivisionError: a method's fault"):
        run_on_ray(two_cells, [], "", {})
    outcomes[0] = UserError("it cannot be")
    with pytest.raises(UserError, match=r"no run could be made: reviews / base / seed 0 \(it cannot be\)"):
        run_on_ray(two_cells, [], "", {})
    outcomes[:] = [a_record(), a_record(method="few_shot")]
    assert [r.method for r in run_on_ray(two_cells, [], "", {})] == ["fspo", "few_shot"]


def test_without_ray_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'fspo-bench\[ray\]'"):
        next(on_ray(len, {"a": ([],)}, {}, "job"))


def flaky(folder: Path, name: str) -> str:
    """Of a job: what the user can mend, a fault that passes, a worker that is lost once, or all is well."""
    tried = folder / name
    first = not tried.exists()
    tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
    if name == "wrong":
        raise UserError("it cannot be")
    if name == "fault" and first:
        raise OSError("the disk was away")
    if name == "lost" and first:
        os._exit(1)
    if name == "never":
        raise ZeroDivisionError("ever")
    return name


@pytest.mark.slow
def test_ray_tries_again_what_may_pass(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    names = ["well", "wrong", "fault", "lost", "never"]
    found = dict(on_ray(flaky, {n: (tmp_path, n) for n in names}, {"num_cpus": 1}, "job"))
    assert [found[n] for n in ("well", "fault", "lost")] == ["well", "fault", "lost"]
    assert isinstance(found["wrong"], UserError)
    assert isinstance(found["never"], ZeroDivisionError)
    tries = {n: len((tmp_path / n).read_text()) for n in names}
    assert tries == {"well": 1, "wrong": 1, "fault": 2, "lost": 2, "never": 4}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_grid_of_twelve_survives_a_killed_worker(tmp_path: Path) -> None:
    """By the command line; one of Ray's workers is killed while it is at a run. Records are as made here."""
    pytest.importorskip("ray")
    argv = [
        sys.executable, "-m", "fspo_bench", "run", "--method", "fspo,pref_ft,ipo",
        "--task", "reviews,roleplay", "--seeds", "0,1", "--preset", "tiny", "--set", "sft_contexts=16",
        "--set", "contexts=16", "--set", "test_users=8", "--set", "test_questions=2",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(builtin_root())}
    ray = {**environment, "FSPO_BENCH_HOME": str(tmp_path / "ray-home")}
    with subprocess.Popen([*argv, "--executor", "ray"], cwd=tmp_path, env=ray) as grid:
        killed = _kill_a_worker(grid.pid)
        assert grid.wait(1200) == 0
    records = [read_record(f) for f in tmp_path.glob("runs/*/*/*/result.json")]
    assert len(records) == 12
    assert killed
    here = {**environment, "FSPO_BENCH_HOME": str(tmp_path / "home")}
    some = ["--method", "fspo", "--task", "reviews", "--seeds", "0", "--output-path", "here"]
    subprocess.run([*argv, *some], cwd=tmp_path, env=here, check=True, timeout=600)
    (alone,) = (read_record(f) for f in tmp_path.glob("here/*/*/*/result.json"))
    (same,) = (r for r in records if r.id == alone.id)
    assert same.metrics == alone.metrics


def _kill_a_worker(driver: int) -> bool:
    """Kill one of the driver's workers once it is at a task."""
    psutil = pytest.importorskip("psutil")
    for _ in range(3000):
        for process in psutil.Process(driver).children(recursive=True):
            try:
                busy = process.name().startswith("ray::_attempt") and process.cpu_times().user > 8
            except psutil.NoSuchProcess:
                continue
            if busy:
                process.kill()
                return True
        time.sleep(0.2)
    return False
