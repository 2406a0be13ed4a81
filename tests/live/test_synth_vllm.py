"""A task made with a real vLLM server and the 135M model (`make test-live`): sound, and poor.

Asked in both orders, this model names the answer shown first 25 times of 26: labels are flips, all are
dropped, and the command ends with "no task". So each pair is asked about in one order, and the report
has to say what the labels are worth. It also seldom manages to name views, so most answers are plain
ones.
"""

import json
import os
from pathlib import Path

import pytest
import yaml

from fspo_bench.cli import main
from fspo_bench.data.task_files import load_task
from fspo_bench.validate import validate

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]
SERVED = "openai/smollm2-135m"
DOMAIN = {
    "summary": "Everyday advice by a very small model.", "license": "CC0-1.0", "shots": 2,
    "about": "People ask for everyday advice, and different people like different advice.",
    "questions": {"test_share": 0.25, "kinds": [{
        "name": "everyday", "count": 14, "about": "everyday questions that can be answered in many ways.",
        "seeds": [
            "How should I spend a rainy Sunday?", "What could I cook for two old friends?",
            "How can I make my room nicer to wake up in?", "What is a good gift for a neighbour?",
            "How do I get to know people in a new town?", "How could I use an empty corner of the garden?",
            "What should I do with my old photographs?", "How can I make my walk to work more fun?",
        ],
    }]},
    "users": {"count": 8, "test_share": 0.25, "traits": {
        "money": ["counts every coin", "pays gladly for comfort"],
        "company": ["likes to be alone", "loves a crowd"],
    }},
    "answers": {"views": 1, "plain": 3, "words": [8, 80]},
    "labels": {"questions": 8, "test_questions": 3, "pairs": 2, "temperature": 1.0},
    "refinement": {"rounds": 1, "statements": 1}, "without": ["both_orders"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_home() -> None:
    """The user's own models, for the embeddings."""
    assert os.environ.get("OPENAI_BASE_URL"), "run it by tests/live/vllm_server.sh (make test-live)"


def test_a_small_run_makes_a_sound_task(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, out = tmp_path / "domain.yaml", tmp_path / "advice"
    file.write_text(yaml.safe_dump(DOMAIN), encoding="utf-8")
    argv = ["synth", str(file), "--model", SERVED, "--out", str(out)]
    assert main([*argv, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    print(json.dumps(figures, indent=2))
    task = load_task(out)
    counts = validate(task)
    assert counts["preferences"] == figures["preferences kept"] >= 20
    assert figures["pairs labelled"] > figures["preferences kept"], "so small a model often gives no verdict"
    before = {f.name: f.read_bytes() for f in out.iterdir() if f.is_file()}
    assert main(argv) == 0
    assert {f.name: f.read_bytes() for f in out.iterdir() if f.is_file()} == before
    capsys.readouterr()
    assert main(["synth-report", str(out), "--json"]) == 0
    told = capsys.readouterr().out
    print(told)
    measures = [m for section in json.loads(told)["sections"] for m in section["measures"]]
    first = next(m for m in measures if m["what"].startswith("verdicts for the answer shown first"))
    assert first["value"] > 75, "so small a model goes by the order, and the report says so"
