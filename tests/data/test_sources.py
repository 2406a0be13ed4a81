"""Where a task's rows come from: its own files, or its hub.py with options and a folder of data."""

import json
from pathlib import Path

import pytest

from fspo_bench.cli import main
from fspo_bench.data.sources import open_task, option_names, source_of
from fspo_bench.errors import UserError
from tests.conftest import write_task

HUB = '''"""Made data."""

import json
from dataclasses import dataclass

from fspo_bench.data.tasks import PreferenceRow, Question, Rows, User


@dataclass(frozen=True)
class Options:
    least: int = 0

    def __post_init__(self):
        if self.least < 0:
            raise ValueError(f"least is {self.least}, must be at least 0")


def load(data_dir, options):
    rows = json.loads((data_dir / "rows.json").read_text()) if data_dir else []
    kept = [r for r in rows if r["n"] >= options.least]
    users = {r["user"]: "test" if r["user"] < "b" else "train" for r in kept}
    return Rows(
        [User(user_id=u, split=s) for u, s in users.items()],
        [Question(question_id=str(r["n"]), split=r["split"], prompt=f"Why {r['n']}?") for r in kept],
        [
            PreferenceRow(user_id=r["user"], question_id=n, chosen=f"yes {n}", rejected=f"no {n}")
            for r in kept for n in [str(r["n"])]
        ],
        note=f"least={options.least}" if options.least else "",
    )
'''


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    folder.joinpath("task.yaml").write_text("version: 1\nsummary: Hub.\nlicense: CC0-1.0\n")
    folder.joinpath("hub.py").write_text(HUB)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [
        {"n": n, "user": "ab"[n % 2], "split": "test" if n % 2 == 0 and n > 5 else "train"} for n in range(12)
    ]
    folder.joinpath("rows.json").write_text(json.dumps(rows))
    return folder


def test_a_folder_with_files_is_bundled_unless_data_are_given(tmp_path: Path, hub: Path, data: Path) -> None:
    bundled = write_task(tmp_path / "bundled")
    assert source_of(bundled) == "bundled"
    assert source_of(hub) == "hub"
    (bundled / "hub.py").write_text(HUB)
    assert source_of(bundled) == "bundled"
    assert source_of(bundled, data_dir=data) == source_of(bundled, "hub") == "hub"
    assert option_names(bundled) == set()
    assert option_names(hub) == {"least"}


def test_rows_options_and_note_of_a_hub_task(hub: Path, data: Path) -> None:
    task = open_task(hub, data_dir=data, settings={"least": 2, "lr": 0.1})
    assert (len(task.rows), task.note, task.name) == (10, "least=2", "made")
    assert not task.structured
    assert open_task(hub, data_dir=data).hash != task.hash
    assert len(task.test_episodes(2, 1, 9, 0)) == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"source": "bundled"}, "made comes with no data; leave --source bundled out"),
        ({}, "the data hold no preferences that can be used"),
        ({"data_dir": Path("nowhere")}, "--data-dir: no folder 'nowhere'"),
        ({"settings": {"least": "x"}}, "--set least: 'x' is not a whole number"),
        ({"settings": {"least": -1}}, "--set: least is -1, must be at least 0"),
    ],
)
def test_what_is_wrong_is_said(hub: Path, call: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        open_task(hub, **call)
    assert said in str(error.value)


def test_data_for_a_bundled_task_are_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match="bundled has no published data to load"):
        open_task(write_task(tmp_path / "bundled"), "hub")
    with pytest.raises(UserError, match="--data-dir belongs to --source hub"):
        open_task(tmp_path / "bundled", data_dir=data)


def test_a_hub_task_runs_with_its_options(
    hub: Path, data: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--task", str(hub), "--data-dir", str(data), "--model", str(tiny_model), "--preset", "small"]
    out = ["--output-path", str(tmp_path / "runs"), "--set", "shots=1", "--set", "least=1", "--json"]
    assert main(["run", "--method", "few_shot", *common, *out]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["metrics"]["win_rate"] is None
    assert "least=1" in record["notes"]
    assert main(["run", "--method", "few_shot", *common, "--set", "leest=1"]) == 2
    assert "did you mean 'least'" in capsys.readouterr().err


def test_validate_passes_over_tasks_without_data_unless_named(
    hub: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "pack"
    pack.joinpath("tasks").mkdir(parents=True)
    hub.rename(pack / "tasks" / "made")
    assert main(["validate", "--pack", str(pack), "--shots", "1"]) == 0
    assert "made: comes with no data; check it with --data-dir" in capsys.readouterr().err
    assert main(["validate", "made", "--pack", str(pack), "--shots", "1", "--data-dir", str(data)]) == 0
    assert "made: sound" in capsys.readouterr().out
