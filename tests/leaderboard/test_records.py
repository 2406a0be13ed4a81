"""Submission: judged again from the answers; the partial, the stale, the leaky and the edited are refused."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fspo_bench.cli import main
from fspo_bench.errors import UserError
from fspo_bench.leaderboard.boards import boards
from fspo_bench.leaderboard.records import read_entries
from fspo_bench.store import digest
from tests.made import edit

Submit = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def quick_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(texts: Any) -> Any:
        return [
            (t, np.array([t[1].count(c) for c in "abcdefgh"], dtype=np.float32)) for t in dict.fromkeys(texts)
        ]

    monkeypatch.setattr("fspo_bench.judge.offline._read_states", read)


@pytest.fixture
def run(made_task: Path, tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A finished run's folder."""

    def run(method: str = "few_shot", *more: str) -> Path:
        runs = tmp_path / "runs"
        assert main(["run", "--method", method, "--task", str(made_task), "--model", str(tiny_model),
                     "--preset", "small", "--output-path", str(runs), *more]) == 0  # fmt: skip
        return max(runs.rglob("result.json"), key=lambda f: f.stat().st_mtime_ns).parent

    return run


@pytest.fixture
def submit(made_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Submit:
    """Exit code and what was said."""

    def submit(*folders: Path) -> tuple[int, str]:
        capsys.readouterr()
        code = main(
            ["submit", *map(str, folders), "--task", str(made_task), "--out", str(tmp_path / "board")]
        )
        out, err = capsys.readouterr()
        return code, out + err

    return submit


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "board").rglob("*.json"))


def refused(said: tuple[int, str], tmp_path: Path) -> str:
    """One sentence, exit code 2, and nothing written."""
    code, text = said
    assert code == 2
    assert entries(tmp_path) == []
    errors = [line for line in text.splitlines() if line.startswith("fspo-bench: ")]
    assert len(errors) == 1
    return errors[0]


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(file.read_text())
    edit(record)
    file.write_text(json.dumps(record))


def test_a_run_becomes_a_verified_entry(run: Callable[..., Path], submit: Submit, tmp_path: Path) -> None:
    folder = run()
    code, said = submit(folder)
    (file,) = entries(tmp_path)
    assert code == 0
    assert said.splitlines()[0] == str(file)
    assert file.parts[-4:] == ("records", "made", "few_shot", f"{folder.name}.json")
    (entry,) = read_entries(tmp_path / "board" / "records")
    assert entry.entry.verified
    assert (
        entry.record.metrics
        == type(entry.record).model_validate_json((folder / "result.json").read_text()).metrics
    )
    outputs = [json.loads(line) for line in (folder / "outputs.jsonl").read_text().splitlines()]
    assert [a.output for a in entry.answered] == [o["output"] for o in outputs]
    again = file.read_bytes(), file.with_suffix(".jsonl.gz").read_bytes()
    submit(folder)
    assert (file.read_bytes(), file.with_suffix(".jsonl.gz").read_bytes()) == again


def test_a_partial_run(run: Callable[..., Path], submit: Submit, tmp_path: Path) -> None:
    assert "is partial (--limit 2); run it without" in refused(
        submit(run("few_shot", "--limit", "2")), tmp_path
    )


def test_a_run_from_foreign_weights(
    run: Callable[..., Path], submit: Submit, tiny_model: Path, tmp_path: Path
) -> None:
    folder = run("few_shot", "--init", str(tiny_model), "--set", "lora_rank=0")
    assert "weights whose training nobody can check" in refused(submit(folder), tmp_path)


def test_a_record_edited_by_hand(run: Callable[..., Path], submit: Submit, tmp_path: Path) -> None:
    folder = run()
    file = folder / "result.json"
    whole = file.read_text()
    change(file, lambda r: r["metrics"]["win_rate"].update(value=99.0))
    assert "its record gives another win_rate than its verdicts do" in refused(submit(folder), tmp_path)
    file.write_text(whole)
    change(file, lambda r: r["spec"]["preset"].update(contexts=9))
    assert "the settings do not give its id" in refused(submit(folder), tmp_path)
    file.write_text(whole)
    assert submit(folder)[0] == 0


@pytest.mark.parametrize("name", ["outputs.jsonl", "verdicts.jsonl"])
def test_edited_answers_and_verdicts(
    run: Callable[..., Path], submit: Submit, tmp_path: Path, name: str
) -> None:
    folder = run()
    edited = {"output": "a b c d e f g h a b c."} if name == "outputs.jsonl" else {"orders": [0.987]}
    edit(folder / name, 1, **edited)
    assert "the judge says otherwise of user" in refused(submit(folder), tmp_path)


def test_answers_about_what_is_not_kept_for_testing(
    run: Callable[..., Path], submit: Submit, tmp_path: Path
) -> None:
    folder = run()
    for name in ("outputs.jsonl", "verdicts.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"question_id":"q1"', '"question_id":"q0"'))
    assert "question 'q0' is not kept for testing" in refused(submit(folder), tmp_path)


def test_a_run_on_other_texts(
    run: Callable[..., Path], submit: Submit, made_task: Path, tmp_path: Path
) -> None:
    folder = run()
    edit(made_task / "answers.jsonl", 1, text="walk in another way.")
    assert "made on other texts of task made" in refused(submit(folder), tmp_path)


def test_a_stale_judge(
    run: Callable[..., Path], submit: Submit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = run()
    monkeypatch.setattr("fspo_bench.judge.offline.VERSION", 99)
    said = refused(submit(folder), tmp_path)
    assert "judged by an older 'offline'" in said
    assert f"fspo-bench score {folder}" in said


def test_a_run_of_an_older_version(
    run: Callable[..., Path], submit: Submit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = run()
    monkeypatch.setattr("fspo_bench.run.VERSION", 99)
    assert "run version" in refused(submit(folder), tmp_path)


def test_other_reference_answers(run: Callable[..., Path], submit: Submit, tmp_path: Path) -> None:
    """Two runs of one task and model stand against the same answers, or one of them is stale."""
    assert submit(run("base"))[0] == 0
    (file,) = entries(tmp_path)
    rows = [json.loads(x) for x in gzip.decompress(file.with_suffix(".jsonl.gz").read_bytes()).splitlines()]
    rows[0]["reference"] = "another answer."
    entry = json.loads(file.read_text())
    entry["digest"] = digest(["fspo-bench/entry/1", entry["record"], entry["verified"], rows])
    file.write_text(json.dumps(entry))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.with_suffix(".jsonl.gz").write_bytes(gzip.compress(text.encode()))
    code, said = submit(run())
    assert code == 2
    assert "is against other reference answers than" in said


def test_an_entry_edited_later_or_moved(run: Callable[..., Path], submit: Submit, tmp_path: Path) -> None:
    submit(run())
    (file,) = entries(tmp_path)
    root, whole = tmp_path / "board" / "records", file.read_text()
    change(file, lambda e: e["record"]["metrics"]["win_rate"].update(value=99.0))
    with pytest.raises(UserError, match="was edited by hand"):
        read_entries(root)
    file.write_text(whole.replace('"format"', '"formal"'))
    with pytest.raises(UserError, match="not an entry of this version"):
        read_entries(root)
    file.write_text(whole)
    moved = file.parent.with_name("fspo") / file.name
    moved.parent.mkdir()
    for suffix in (".json", ".jsonl.gz"):
        file.with_suffix(suffix).replace(moved.with_suffix(suffix))
    with pytest.raises(UserError, match="move it there"):
        read_entries(root)


def test_seeds_of_a_method_share_a_line(run: Callable[..., Path], submit: Submit, tmp_path: Path) -> None:
    submit(run("base"), run("few_shot"), run("few_shot", "--seed", "1"))
    (board,) = boards(read_entries(tmp_path / "board" / "records"))
    assert [(line.label, sorted(line.seeds)) for line in board.lines if line.label == "few_shot"] == [
        ("few_shot", [0, 1])
    ]
    assert {line.label for line in board.lines} == {"base", "few_shot"}
    (base,) = (line for line in board.lines if line.label == "base")
    assert base.win_rate.value == 50.0
    assert base.personal_gain is None
