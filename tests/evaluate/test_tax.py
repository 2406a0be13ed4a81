"""The personalisation tax: base and trained policy on tasks of lm-eval, paired by document."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.cli import main
from fspo_bench.evaluate import tax as module
from fspo_bench.evaluate.tax import _tested
from tests.conftest import write_rows
from tests.made import rated_task

TASK = """task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: OUTPUT
doc_to_text: "{{q}}"
doc_to_choice: [" yes", " no"]
doc_to_target: a
metric_list:
  - {metric: METRIC, aggregation: AGGREGATION, higher_is_better: true}
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two tasks in a group, and one whose metric is no mean."""
    pytest.importorskip("lm_eval")
    folder = tmp_path / "made tasks"
    folder.mkdir()
    made = {"one": (8, "acc", "mean"), "two": (4, "acc", "mean"), "odd": (4, "mcc", "matthews_corrcoef")}
    for name, (n, metric, aggregation) in made.items():
        file = folder / f"{name}.jsonl"
        write_rows(file, [{"q": f"Is {name} {k} so?", "a": k % 2} for k in range(n)])
        text = TASK.replace("NAME", f"made_{name}").replace("FILE", json.dumps(str(file)))
        text = text.replace("METRIC", metric).replace("AGGREGATION", aggregation)
        (folder / f"{name}.yaml").write_text(text.replace("OUTPUT", "multiple_choice"))
    (folder / "both.yaml").write_text("group: made_both\ntask: [made_one, made_two]\n")
    return folder


@pytest.fixture
def trained(tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    def trained(method: str, *settings: str) -> Path:
        task, runs = rated_task(tmp_path / "rated"), tmp_path / "runs"
        argv = ["run", "--method", method, "--task", str(task), "--preset", "small", "--model", tiny_model]
        assert main([str(a) for a in (*argv, "--output-path", runs, *settings)]) == 0
        return next(runs.glob("*/*/*"))

    return trained


@pytest.mark.parametrize("rank", [2, 0], ids=["adapter", "all-weights"])
def test_the_change_is_paired_by_document(
    trained: Callable[..., Path], tasks: Path, capsys: pytest.CaptureFixture[str], rank: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = trained("pref_ft", "--set", f"lora_rank={rank}", "--set", "sft_lr=0.05")
    argv = ["tax", str(run), "--tasks", "made_one,made_both,made_odd", "--tasks-from", str(tasks), "--json"]
    capsys.readouterr()
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((run / "tax.json").read_text()) == found
    assert [(c["task"], c["metric"], c["documents"]) for c in found["changes"]] == [
        ("made_one", "acc", 8), ("made_both", "acc", 12)
    ]  # fmt: skip
    for c in found["changes"]:
        assert c["change"] == pytest.approx(100 * (c["better"] - c["worse"]) / c["documents"], abs=0.01)
        assert c["change"] == pytest.approx(c["trained"] - c["base"], abs=0.02)
        assert c["ci95"][0] <= c["change"] <= c["ci95"][1]
    assert found["left_out"] == ["made_odd: mcc"]
    assert "made_odd: mcc" in (run / "tax.md").read_text()

    def never(*_: Any) -> Any:
        raise AssertionError("lm-eval was run again")

    monkeypatch.setattr(module, "_evaluate", never)
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_what_cannot_be_measured_is_one_sentence(
    trained: Callable[..., Path], tasks: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = trained("base")
    for more, says in [
        (["--tasks", "made_one", "--tasks-from", "nowhere"], "--tasks-from: no folder 'nowhere'"),
        (["--tasks", "made_one", "--tasks-from", str(tasks)], "method 'base' trains no policy"),
    ]:
        assert main(["tax", str(run), *more]) == 2
        assert says in capsys.readouterr().err
    import lm_eval.tasks

    manager = lm_eval.tasks.TaskManager
    monkeypatch.setattr(  # without looking through its own
        lm_eval.tasks,
        "TaskManager",
        lambda include_path, include_defaults=False: manager(
            include_path=include_path, include_defaults=False
        ),
    )
    with pytest.raises(module.UserError, match=r"no task 'made_on', did you mean 'made_one'\?"):
        module._load(module.Asked(["made_on"], tasks))
    assert not (run / "tax.json").exists()


def test_the_figures_by_hand() -> None:
    before, after = [1.0] * 6 + [0.0] * 4, [1.0] * 3 + [0.0] * 6 + [1.0]
    (change,) = _tested([("t", "acc", before, after)])
    assert (change.base, change.trained, change.change) == (60.0, 40.0, -20.0)
    assert (change.better, change.worse) == (1, 3)
    assert change.p == pytest.approx(0.625)  # McNemar exact: 2 * (1 + 4) / 16
    d = [b - a for a, b in zip(before, after, strict=True)]
    assert change.ci95 is not None
    half = 2.262157 * (sum((x + 0.2) ** 2 for x in d) / 9 / 10) ** 0.5
    assert change.ci95[0] == pytest.approx(100 * (-0.2 - half), abs=0.01)
