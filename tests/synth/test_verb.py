"""`fspo-bench synth`: what is typed, what is said, and a server with faults."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fspo_bench.cli import main
from fspo_bench.data.task_files import load_task
from fspo_bench.judge.servers import Server
from fspo_bench.packs import builtin_root
from fspo_bench.synth.crew import open_model
from fspo_bench.synth.domain import read_domain
from fspo_bench.synth.forecast import parts, table
from fspo_bench.synth.labels import is_open, outcome, settled
from fspo_bench.synth.runner import STAGES
from fspo_bench.validate import validate
from tests.judge.faulty_server import FAULTS
from tests.synth.scripted import Script, Scripted, domain, letters, serving, synthesis

SIZES: dict[str, Any] = {"users": {"count": 6}, "labels": {"questions": 5, "test_questions": 2}}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("fspo_bench.verbs.synthesis._embed", letters)
    monkeypatch.setattr("fspo_bench.judge.servers.SPOILT_PAUSE", 0.001)
    monkeypatch.setattr("fspo_bench.synth.crew.TIMEOUT", 1.0)
    monkeypatch.setattr("openai._constants.INITIAL_RETRY_DELAY", 0.001, raising=False)
    file = tmp_path / "domain.yaml"
    file.write_text(yaml.safe_dump(domain(**SIZES).model_dump(mode="json")), encoding="utf-8")
    return file


def test_a_server_with_faults_gives_the_same_task(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with serving(Script(), {5 * n + 2: fault for n, fault in enumerate(FAULTS)}) as server:
        argv = ["synth", str(file), "--model", f"openai/scripted@{server.url}", "--out", str(out)]
        assert main(argv) == 0
        said = capsys.readouterr().out
        asked = len(server.requests)
        assert main([*argv, "--json"]) == 0
        assert len(server.requests) == asked
    assert re.search(
        rf"wrote {out}\n.*preferences kept: \d+.*next: fspo-bench validate {out}", said, re.DOTALL
    )
    figures = json.loads(capsys.readouterr().out)
    assert figures["complete"] is True
    synthesis(tmp_path / "plain" / "out", Script(), **SIZES).run()
    for name in ("users.jsonl", "questions.jsonl", "preferences.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "plain" / "out" / name).read_bytes()
    assert validate(load_task(out))["preferences"] == figures["preferences kept"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--model", "gpt-4o"], "--model gpt-4o: give openai/NAME or openai/NAME@http"),
        (["--model", "openai/a", "--model", "openai/a@http://h/v1"], "--model openai/a: given twice"),
        (["--model", "openai/a", "--shard", "0/4"], "--shard 0/4: give I/N, from 1/N to N/N"),
        (["--model", "openai/a", "--without", "vews"], "did you mean 'views'?"),
        (["--model", "openai/a", "--scale", "0"], "--scale 0: must be above 0"),
        (["--model", "openai/a", "--max-cost", "1"], "--max-cost: no price of openai/a"),
    ],
)
def test_a_slip_is_one_sentence(
    file: Path, tmp_path: Path, changed: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", str(file), "--out", str(tmp_path / "out"), *changed]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_key_is_said_before_any_work(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert main(["synth", str(file), "--model", "openai/a", "--out", str(tmp_path / "out")]) == 2
    assert "no OPENAI_API_KEY in the environment" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_task_without_a_domain_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "prism", "--model", "openai/a", "--out", str(tmp_path / "out")]) == 2
    assert "task 'prism' has no domain.yaml" in capsys.readouterr().err


def test_a_dry_run_asks_nothing_and_says_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["synth", "roleplay", "--model", "openai/gpt-4o-mini-2024-07-18", "--out", str(tmp_path / "out")]
    assert main([*argv, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^personas +1,500 +[\d,]+ +[\d,]+ +\$\d", out, re.MULTILINE)
    assert re.search(r"^labels +[\d,]+ to [\d,]+", out, re.MULTILINE)
    assert re.search(r"^all +\$[\d.]+ to \$[\d.]+ +\d+ min", out, re.MULTILINE)
    assert "assumed (0.5 s, and 0.02 s a token written)" in out
    assert not (tmp_path / "out").exists()
    assert main([*argv, "--dry-run", "--model", "openai/other", "--scale", "0.1"]) == 0
    assert "leaves out openai/other, without a price" in capsys.readouterr().out


def test_the_forecast_is_what_is_asked(tmp_path: Path) -> None:
    """But for questions that are asked for again because they repeat others."""
    model = Scripted(Script(knows=8, bias="tie"))
    sizes: dict[str, Any] = {"refinement": {"rounds": 0}, "answers": {"similarity": 1.0}}
    run = synthesis(tmp_path / "out", model, **sizes)
    run.run()
    expected = {"personas": 12, "responses": 20 * 4, "labels": (12 * 12 + 3 * 4) * 2}
    of = {name: sum(p.calls for p in parts(run.domain) if p.stage == name) for name in expected}
    used = {name: json.loads((run.folder / f"usage.{name}.json").read_text())["calls"] for name in expected}
    assert of == used == expected
    assert run.seconds() == {name: pytest.approx(0.01) for name in ("questions", *expected)}
    assert "measured here" in table(run.domain, run.names, 16, (), run.seconds())


@pytest.mark.parametrize("name", ["roleplay", "elix_easy", "elix_hard", "reviews"])
def test_the_bundled_domains_run(name: str, tmp_path: Path, file: Path) -> None:
    """Their stages, with a model that knows what to say; whether a task comes out is the model's part."""
    folder = builtin_root() / "tasks" / name
    run = synthesis(tmp_path / "out", Script())
    run.domain = read_domain(folder / "domain.yaml", scale=0.01)
    run._begin()
    assert [run._complete(kind) for kind in STAGES[:3]] == [True] * 3
    assert (run.folder / "responses.jsonl").stat().st_size


def test_no_key_goes_to_a_server_that_it_is_not_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    monkeypatch.setenv("OPENAI_API_KEY_LLM_EXAMPLE_ORG", "ours")
    assert Server("m").api_key() == "theirs"
    assert Server("m", base_url="https://llm.example.org:8000/v1").api_key() == "ours"
    assert Server("m", base_url="http://localhost:8000/v1").api_key() == "none"
    opened = open_model("openai/org/name@v2@http://localhost:8000/v1", 3)
    assert opened.name == "openai/org/name@v2"
    assert isinstance(opened.backend, Server)
    assert opened.backend.base_url == "http://localhost:8000/v1"


def test_outcomes() -> None:
    assert outcome(["a", "a"]) == "a"
    assert outcome(["tie", "tie"]) == "tie"
    assert outcome(["a", "b"]) == outcome(["a", "tie"]) == "flip"
    assert outcome(["a", None]) == outcome([None]) == "invalid"
    assert settled(["a", "a"]) == "a"
    assert settled(["a", "b"]) is settled(["a", "flip"]) is settled(["tie"]) is None
    assert [is_open(o) for o in (["a"], ["flip"], ["tie"], ["a", "b"], ["invalid"], ["a", "invalid"])] == [
        False, True, True, True, False, False,
    ]  # fmt: skip


def test_help_stays_light() -> None:
    code = "import sys; from fspo_bench.cli import main\ntry: main(['synth', '--help'])\n"
    code += "except SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'pydantic', 'openai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
