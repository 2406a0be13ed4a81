"""Many runs by one command: planned with their time, none done twice, a failing one stops no other."""

from pathlib import Path
from typing import Any

import pytest

from fspo_bench import grid
from fspo_bench.errors import Stopped, UserError
from fspo_bench.evaluate.results import Record
from fspo_bench.grid import plan_table, planned, run_all
from fspo_bench.packs import Pack, builtin_root
from fspo_bench.plan import Wanted, plan
from fspo_bench.run import Request
from fspo_bench.store import Store, write_atomic
from tests.conftest import write_task
from tests.made import a_record, rated_task

PACK = [Pack("fspo-bench", builtin_root())]


@pytest.fixture
def requests(made_task: Path, tiny_model: Path, tmp_path: Path) -> list[Request]:
    wanted = Wanted(
        ["base", "few_shot"], [str(made_task)], "small", str(tiny_model), seeds=[0, 1], runs=tmp_path
    )
    return plan(wanted, PACK, "fspo-bench run")


def test_a_plan_crosses_everything(requests: list[Request]) -> None:
    assert [(r.method.name, r.seed) for r in requests] == [
        ("base", 0), ("few_shot", 0), ("base", 1), ("few_shot", 1)
    ]  # fmt: skip


def test_all_is_every_method_and_every_task_with_data(tiny_model: Path) -> None:
    found = plan(Wanted(["all"], ["all"], "small", str(tiny_model)), PACK, "")
    assert {r.task.name for r in found} == {"roleplay", "elix_easy", "elix_hard", "reviews"}
    names = {r.method.name for r in found}
    assert {"fspo", "vpl", "wrong_user-fspo", "oracle", "base"} <= names
    assert len(found) == 4 * len(names)
    with pytest.raises(UserError, match="--method all: holds every other one"):
        plan(Wanted(["all", "base"], ["all"], "small"), PACK, "")


def test_the_presets_source_is_taken_unless_another_is_given(tiny_model: Path) -> None:
    (micro,) = plan(Wanted(["base"], ["reviews"], "tiny"), PACK, "")
    (own,) = plan(Wanted(["base"], ["reviews"], "tiny", str(tiny_model), source="bundled"), PACK, "")
    assert micro.task.spec.judge_reads == "lexicon"
    assert own.task.spec.judge_reads == "states"
    assert (micro.preset.source, own.preset.source) == ("micro", "bundled")
    with pytest.raises(UserError, match="--set source: method 'base' has no such setting"):
        plan(Wanted(["base"], ["reviews"], settings={"source": "micro"}), PACK, "")


def test_the_micro_model_reads_micro_versions_alone() -> None:
    with pytest.raises(UserError, match="knows the words of micro versions only; add --source micro"):
        plan(Wanted(["base"], ["reviews"], model="micro"), PACK, "")


def test_the_dry_run_says_what_is_done_and_how_long_the_rest_takes(
    requests: list[Request], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    said = plan_table(planned(requests, store), store)
    assert said.splitlines()[-1] == "4 runs, 0 done, 4 to go: no finished run tells how long they take"
    assert said.count("time not known") == 4
    done = grid.located(requests[0], store)
    record = a_record(task="made", method="base", model=requests[0].preset.model, preset="small", seconds=90,
                      spec=done.spec)  # fmt: skip
    write_atomic(done.folder / "result.json", record.model_dump_json())
    lines = plan_table(planned(requests, store), store).splitlines()
    assert "done" in lines[0]
    assert "about 1 min 30 s" in lines[2]
    assert lines[-1] == "4 runs, 1 done, 3 to go: about 1 min 30 s for 1 of them, as runs like them took"


def test_a_run_that_fails_stops_no_other(
    requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(request: Request, store: Store) -> Record:
        ran.append((request.method.name, request.seed))
        if request.method.name == "few_shot":
            raise UserError("it cannot be") if request.seed else ZeroDivisionError("a method's fault")
        return a_record()

    monkeypatch.setattr(grid, "run", run)
    said = r"2 of 4 runs failed, the others are finished: .*ZeroDivisionError: a method's fault.*it cannot be"
    with pytest.raises(Stopped, match=said):
        run_all(requests, Store(tmp_path / "store"))
    assert len(ran) == 4
    with pytest.raises(ZeroDivisionError):  # alone, nothing is held back
        run_all([r for r in requests if r.method.name == "few_shot"][:1], Store(tmp_path / "store"))


def test_a_finished_grid_does_no_work(
    requests: list[Request],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(tmp_path / "store")
    monkeypatch.setattr("fspo_bench.judge.offline._read_states", _letters)
    first = run_all(requests, store)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("work was done")

    for work in ("lm.outputs.samples", "run.answer_all", "run.rank_all", "run.judge_all", "lab.train_stage"):
        monkeypatch.setattr(f"fspo_bench.{work}", never)
    capsys.readouterr()
    assert [r.id for r in run_all(requests, store)] == [r.id for r in first]
    assert capsys.readouterr().err.count("already complete") == 4


def _letters(texts: Any) -> Any:
    import numpy as np

    return [
        (t, np.array([t[1].count(c) for c in "abcdefgh"], dtype=np.float32)) for t in dict.fromkeys(texts)
    ]


def test_a_task_of_another_pack_stands_beside(tmp_path: Path) -> None:
    write_task(tmp_path / "theirs" / "tasks" / "garden")
    rated_task(tmp_path / "theirs" / "tasks" / "rated")
    found = plan(Wanted(["base"], ["all"], "cpu"), [Pack("theirs", tmp_path / "theirs"), *PACK], "")
    assert {"garden", "rated", "reviews"} <= {r.task.name for r in found}
