"""Tasks as a data set: the `datasets` package reads the folder, splits keep people and questions apart."""

from pathlib import Path

import pytest

from fspo_bench.cli import main
from fspo_bench.data.sources import open_task
from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import EVALUATION_SEED
from fspo_bench.export.datasets import configurations
from fspo_bench.packs import builtin_root
from fspo_bench.presets import PRESETS
from tests.made import rated_task

ALL = [builtin_root() / "tasks" / name for name in ("elix_easy", "elix_hard", "reviews", "roleplay")]


def test_datasets_loads_every_configuration_of_the_folder(
    made_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    rated, out = rated_task(tmp_path / "rated", users=60, questions=60), tmp_path / "out"
    argv = ["export-tasks", "--to", "datasets", str(out), "--task", f"{made_task},{rated}", "--shots", "2"]
    assert main(argv) == 0
    monkeypatch.chdir(out)  # `load_dataset` may be given the folder in any way

    def load(name: str) -> object:
        return datasets.load_dataset(str(out), name, cache_dir=str(tmp_path / "cache"))

    names = datasets.get_dataset_config_names(str(out))
    assert names == [
        *("made" + part for part in ("", "_users", "_questions", "_episodes", "_answers")),
        *("rated" + part for part in ("", "_users", "_questions", "_episodes")),
    ]
    loaded = {name: load(name) for name in names}
    task = load_task(made_task)
    assert set(loaded["made"]) == {"train", "shots", "test"}
    assert loaded["made"]["train"].column_names == ["user_id", "question_id", "prompt", "chosen", "rejected"]
    assert loaded["made_users"]["train"].num_rows == len(task.users_of("train"))
    assert loaded["made_answers"]["test"][0]["loadings"] == {"calm": 1.0, "out": 1.0}
    assert len(loaded["rated"]["test"]) == sum(
        task.users[r.user_id].split == "test" and task.questions[r.question_id].split == "test"
        for task in [load_task(rated)] for r in task.rows
    )  # fmt: skip
    (episode, *_) = loaded["made_episodes"]["test"]
    assert len(episode["shots"]) == 2
    card = (out / "README.md").read_text()
    assert "- cc0-1.0" in card and "| `made` |" in card


@pytest.mark.parametrize("folder", ALL, ids=lambda f: f.name)
def test_splits_keep_users_and_questions_apart(folder: Path) -> None:
    task = open_task(folder)
    found = configurations(task, PRESETS["cpu"])
    rows = found[task.name]
    new = {u.user_id for u in task.users.values() if u.split == "test"}
    assert not new & {r["user_id"] for r in rows["train"]}
    for split, questions in (("train", "train"), ("shots", "train"), ("test", "test")):
        assert {task.questions[r["question_id"]].split for r in rows[split]} == {questions}
        assert len({(r["user_id"], r["question_id"]) for r in rows[split]}) == len(rows[split])
    episodes = task.test_episodes(4, 3, 24, EVALUATION_SEED)
    for e, row in zip(episodes, found[f"{task.name}_episodes"]["test"], strict=True):
        assert row["user_id"] == e.user_id
        for part, pairs in (("shots", e.shots), ("queries", e.queries)):
            assert [p["chosen"] for p in row[part]] == [p.chosen for p in pairs]


def test_what_cannot_be_written_is_one_sentence(
    made_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["export-tasks", "--to", "datasets", str(tmp_path / "out"), "--task", str(made_task)]
    assert main([*argv, "--shots", "99"]) == 2
    assert "use fewer shots" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*argv, "--shots", "2"]) == 0
    assert main([*argv, "--shots", "2"]) == 2
    assert "is there already; give another folder" in capsys.readouterr().err
