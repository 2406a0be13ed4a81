"""The judge against a real vLLM server (`make test-live`): end to end; the same verdicts as in process."""

import json
import os
from pathlib import Path

import pytest

from fspo_bench.cli import main
from fspo_bench.data.task_files import load_task
from fspo_bench.judge.card import comparisons
from fspo_bench.judge.llm import LlmJudge
from fspo_bench.judge.opening import Chosen, open_judge
from fspo_bench.judge.pairs import some_pairs
from fspo_bench.packs import builtin_judge, builtin_root
from fspo_bench.store import Store

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]
SERVED = "openai/smollm2-135m"


@pytest.fixture(autouse=True)
def own_home() -> None:
    """The user's own models: the server reads its weights from there, too."""
    assert os.environ.get("OPENAI_BASE_URL"), "run it by tests/live/vllm_server.sh (make test-live)"


def judge(model: str, store: Path) -> LlmJudge:
    task = load_task(builtin_root() / "tasks" / "reviews")
    opened = open_judge(Chosen(builtin_judge("description"), model), task, Store(store))
    assert isinstance(opened, LlmJudge)
    return opened


def test_a_card_from_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fspo_bench.store.Store.__init__", lambda self, root=None: setattr(self, "root", tmp_path)
    )
    argv = [
        "judge-card",
        "--task",
        "reviews",
        "--judge",
        "description",
        "--judge-model",
        SERVED,
        "--pairs",
        "24",
    ]
    assert main([*argv, "--json"]) == 0
    (card,) = json.loads(capsys.readouterr().out)
    assert card["pairs"] == 24
    assert card["usage"]["calls"] == 48
    assert card["usage"]["input_tokens"] > 48 * 200
    assert card["usage"]["served"] == ["smollm2-135m"]
    assert main(argv) == 0
    assert "48, " in capsys.readouterr().out


def test_the_server_and_this_process_say_the_same(tmp_path: Path) -> None:
    """The same weights in float32, the same chat template: probabilities to three places."""
    task = load_task(builtin_root() / "tasks" / "reviews")
    asked = comparisons(p for of_user in some_pairs(task, 8) for p in of_user)
    there = judge(SERVED, tmp_path / "there").verdicts(asked)
    here = judge("smollm2-135m", tmp_path / "here").verdicts(asked)
    assert [v.reason for v in there] == [v.reason for v in here]
    known = [(a.orders, b.orders) for a, b in zip(there, here, strict=True) if not a.reason]
    assert known
    for a, b in known:
        assert a == pytest.approx(b, abs=2e-3)
