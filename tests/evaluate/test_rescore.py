"""A run with an LLM judge, from the command line: the same record by either way, whatever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fspo_bench.cli import main
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.evaluate.scoring import read_outputs
from tests.judge.faulty_server import Server, serving
from tests.judge.test_servers import MODEL

LLM = ("--judge", "description", "--judge-model", MODEL)
Bench = Callable[..., int]


@pytest.fixture
def bench(made_task: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setattr(
        "fspo_bench.judge.offline._read_states",
        lambda texts: [(t, _letters(t[1])) for t in dict.fromkeys(texts)],
    )

    def bench(verb: str, *more: str) -> int:
        runs = ["--output-path", str(tmp_path / "runs")]
        what = [
            "--method",
            "few_shot",
            "--task",
            str(made_task),
            "--preset",
            "small",
            "--model",
            str(tiny_model),
        ]
        return main([verb, *(what if verb == "run" else []), *runs, *more])

    return bench


def _letters(text: str) -> object:
    import numpy as np

    return np.array([text.count(c) for c in "abcdefghijk"], dtype=np.float32)


def results(runs: Path) -> list[Path]:
    return sorted(runs.rglob("result.json"), key=lambda f: f.stat().st_mtime_ns)


def told(record: Record) -> dict[str, object]:
    """The record without what is of the moment."""
    left_out = {"seconds", "stages", "command", "environment"}
    whole = record.model_dump(exclude=left_out)
    whole["judge"]["usage"].pop("seconds_per_call")
    return whole


def at(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)


def test_score_makes_the_run_that_run_would_have_made(
    bench: Bench, made_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    with serving() as server:
        at(server, monkeypatch)
        assert bench("run", *LLM) == 0
        (direct,) = results(runs)
        record = read_record(direct)
        assert record.judge and record.judge.usage and record.metrics.verdicts
        assert record.judge.usage.calls == len(server.requests) == len(server.answered)
        assert not record.metrics.verdicts.without
        direct.parent.rename(tmp_path / "direct")
        asked = len(server.requests)
        assert bench("run") == 0
        (offline,) = results(runs)
        assert bench("score", str(offline.parent), *LLM, "--task", str(made_task)) == 0
        assert len(server.requests) == asked, "nothing is asked twice"
    scored = results(runs)[-1]
    assert scored.parent.name == direct.parent.name
    assert told(read_record(scored)) == told(record)
    assert read_outputs(scored.parent) == read_outputs(tmp_path / "direct")


def test_a_run_is_exported_from_the_command_line(bench: Bench, made_task: Path, tmp_path: Path) -> None:
    assert bench("run") == 0
    (offline,) = results(tmp_path / "runs")
    to = ("--to", "alpaca-eval", "--out", str(tmp_path / "out"), "--task", str(made_task))
    assert bench("export", offline.parent.name, *to) == 0
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_other_texts_than_the_runs_are_refused(
    bench: Bench, made_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("run") == 0
    (offline,) = results(tmp_path / "runs")
    questions = made_task / "questions.jsonl"
    questions.write_text(questions.read_text().replace("What about", "And what about"))
    assert bench("score", str(offline.parent), *LLM, "--task", str(made_task)) == 2
    assert "was made on other texts of task made" in capsys.readouterr().err


def test_a_dry_run_asks_nothing_and_forecasts_what_is_then_asked(
    bench: Bench, made_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert bench("run") == 0
    (offline,) = results(tmp_path / "runs")
    score = ("score", str(offline.parent), *LLM, "--task", str(made_task))
    with serving() as server:
        at(server, monkeypatch)
        assert bench(*score, "--dry-run") == 0
        assert not server.requests
        out = capsys.readouterr().out
        assert bench(*score) == 0
        assert f": {len(server.requests)} calls (0 more are known)" in out
        assert "$0.0" in out
        again = ("score", str(offline.parent), *LLM, "--task", str(made_task), "--dry-run")
        capsys.readouterr()
        assert bench(*again) == 0
        assert f": 0 calls ({len(server.requests)} more are known)" in capsys.readouterr().out


def test_a_dry_run_of_run_counts_the_calls_and_does_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        at(server, monkeypatch)
        assert bench("run", *LLM, "--dry-run") == 0
        out = capsys.readouterr().out
        assert not server.requests
        assert not (tmp_path / "runs").exists()
        assert bench("run", *LLM) == 0
        at_most = int(out.partition(" calls")[0].split()[-1])
        of_card = read_record(results(tmp_path / "runs")[0]).judge
        assert of_card and of_card.pairs
        # 4 users, 2 questions, 3 comparisons, both orders; this tiny model writes answers that need no judge
        assert at_most == 2 * of_card.pairs + 4 * 2 * 3 * 2
        assert len(server.requests) <= at_most


def test_killed_at_any_moment_and_given_again_the_result_is_the_same(
    bench: Bench, made_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL after some answers, again and again; then whole, and compared with a run that nobody killed."""
    runs = tmp_path / "runs"
    assert bench("run") == 0
    (offline,) = results(runs)
    argv = [sys.executable, "-m", "fspo_bench", "score", str(offline.parent), *LLM, "--task", str(made_task)]

    def killed_after(server: Server, answers: int) -> None:
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=dict(os.environ))
        while sum(server.answered.values()) < answers and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()

    with serving() as server:
        at(server, monkeypatch)
        for answers in (1, 20, 40):
            killed_after(server, answers)
            assert results(runs) == [offline], "nothing half-written"
        subprocess.run(argv, check=True, capture_output=True)
        # What was under way at a kill may be asked again: at most as many as run side by side, each time.
        assert sum(server.answered.values()) - len(server.answered) <= 3 * 16
    files = ("outputs.jsonl", "verdicts.jsonl", "result.json")
    scored = results(runs)[-1].parent
    once = [(scored / name).read_text() for name in files]
    record = read_record(scored / "result.json")
    for file in scored.iterdir():
        file.unlink()
    scored.rmdir()
    monkeypatch.setenv("FSPO_BENCH_HOME", str(tmp_path / "elsewhere"))
    with serving() as server:
        at(server, monkeypatch)
        subprocess.run(argv, check=True, capture_output=True)
    assert [(scored / name).read_text() for name in files[:2]] == once[:2]
    assert told(read_record(scored / "result.json")) == told(record)
    assert "a key" not in "".join(once), "keys stay out of files"
