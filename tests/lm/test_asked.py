"""Policies that only answer: a server behind an address, and vLLM (a stand-in that records calls)."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import fspo_bench.judge.offline as judge_module
from fspo_bench.cli import main
from fspo_bench.errors import UserError
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.judge.servers import Server
from fspo_bench.leaderboard.records import _refuse
from fspo_bench.lm.asked import ask, backend_of
from fspo_bench.lm.prompts import Context
from fspo_bench.store import Store
from tests.judge.faulty_server import serving


@pytest.fixture(autouse=True)
def quick_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge's features from the text's letters instead of the 135M reader."""
    monkeypatch.setattr(
        judge_module,
        "_read_states",
        lambda texts: [
            (t, np.array([t[1].count(c) for c in "abcdefghij"], dtype=np.float32))
            for t in dict.fromkeys(texts)
        ],
    )


@pytest.fixture
def run(made_task: Path, tmp_path: Path) -> Callable[..., Record]:
    def run(method: str, model: str, *more: str, code: int = 0) -> Record:
        argv = ["run", "--method", method, "--task", str(made_task), "--preset", "small", "--model", model]
        assert main([*argv, "--output-path", str(tmp_path / "runs"), *more]) == code
        return read_record(max((tmp_path / "runs").rglob("result.json"), key=lambda f: f.stat().st_mtime_ns))

    return run


def says_the_last_word(prompt: str) -> tuple[str, dict[str, float]]:
    return f"I would {prompt.rsplit(maxsplit=1)[-1]} now. And then", {"I": 1.0}


def test_a_server_answers_prompting_baselines(
    run: Callable[..., Record], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of another server")
    with serving(says_the_last_word) as server:
        model = f"openai/served@{server.url}"
        record = run("few_shot", model)
        asked = len(server.requests)
        assert {r["model"] for r in server.requests} == {"served"}
        roles = [[m["role"] for m in r["messages"]] for r in server.requests]
        turns = ["user", "assistant"] * 2
        assert ["user"] in roles and ["system", *turns, "user"] in roles, "base and its shots as turns"
        assert {(r["temperature"], r["max_tokens"]) for r in server.requests} == {(0.0, 6)}
        run("oracle", model)
        base_again = [r for r in server.requests[asked:] if len(r["messages"]) == 1]
        assert not base_again, "the reference's answers are shared"
    assert record.metrics.win_rate is not None
    assert record.metrics.preference_accuracy is None
    assert record.metrics.population_model.n > 0
    assert any("no preference accuracy" in note for note in record.notes)
    assert "few_shot" in capsys.readouterr().out


def test_what_trains_is_refused_before_anything_is_asked(
    run: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        for method in ("fspo", "best_of_k", "summary"):
            with pytest.raises(ValueError):  # no record
                run(method, f"openai/served@{server.url}", code=2)
            assert f"method '{method}' needs the policy's weights" in capsys.readouterr().err
        assert not server.requests


def test_no_place_on_a_leaderboard(run: Callable[..., Record], tmp_path: Path) -> None:
    with serving(says_the_last_word) as server:
        record = run("base", f"openai/served@{server.url}")
    with pytest.raises(UserError, match="only answers"):
        _refuse(tmp_path, record, None, None, None)  # type: ignore[arg-type]


def test_a_refused_question_is_said_and_the_others_are_kept(tmp_path: Path) -> None:
    store, questions = Store(tmp_path), [(Context(), f"Question {n}?") for n in range(3)]
    with serving(says_the_last_word, faults={1: "400"}) as server:
        backend = Server("served", concurrency=1, base_url=server.url)
        with pytest.raises(UserError, match=r"openai/served refuses 1 of 3 questions .*HTTP 400"):
            ask(backend, "", questions, 8, store, "answers")
        found = ask(backend, "", questions, 8, store, "answers")
        assert len(server.requests) == 4
    assert found[questions[0]] == "I would 0? now. And then"


@pytest.mark.parametrize("name", ["openai/", "openai/@http://localhost/v1"])
def test_a_name_without_a_model(name: str) -> None:
    with pytest.raises(UserError, match="name the model"):
        backend_of(name)


class Engine:
    """What is used of `vllm.LLM`."""

    made: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, model: str, **options: Any) -> None:
        self.made.append({"model": model, **options})

    def chat(self, chats: list[Any], sampling: Any, **options: Any) -> list[Any]:
        self.asked.append({"chats": chats, "sampling": vars(sampling), **options})
        said = SimpleNamespace(text="Walk. And", logprobs=None, token_ids=[1, 2])
        return [SimpleNamespace(outputs=[said], prompt_token_ids=[1], num_cached_tokens=0) for _ in chats]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    package, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    package.LLM = Engine  # type: ignore[attr-defined]
    package.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    request.LoRARequest = lambda *given: given  # type: ignore[attr-defined]
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Engine, "made", [])
    monkeypatch.setattr(Engine, "asked", [])
    return Engine


def test_vllm_answers_in_this_process(
    run: Callable[..., Record], vllm: type[Engine], tiny_model: Path
) -> None:
    record = run("few_shot", f"vllm/{tiny_model}")
    assert [(e["model"], e["dtype"]) for e in vllm.made] == [(str(tiny_model), "auto")], "loaded once"
    assert {a["sampling"]["temperature"] for a in vllm.asked} == {0.0}
    assert {a["sampling"]["max_tokens"] for a in vllm.asked} == {6}
    assert {a["lora_request"] for a in vllm.asked} == {None}
    assert record.metrics.win_rate is not None


def test_vllm_answers_as_a_run_that_was_trained(
    run: Callable[..., Record], vllm: type[Engine], tiny_model: Path, tmp_path: Path
) -> None:
    trained = run("pref_ft", str(tiny_model))
    (folder,) = (f.parent for f in (tmp_path / "runs").rglob("result.json"))
    run("few_shot", f"vllm/{folder}")
    (engine,) = vllm.made
    assert (engine["model"], engine["dtype"]) == (str(tiny_model), "float32")
    assert (engine["enable_lora"], engine["max_lora_rank"]) == (True, 16)
    (adapter,) = {a["lora_request"] for a in vllm.asked}
    weights = Path(adapter[2])
    assert adapter[:2] == (f"made-pref_ft-{trained.id}", 1)
    assert json.loads((weights / "adapter_config.json").read_text())["r"] == 16
    assert (weights / "adapter_model.safetensors").is_file()


def test_without_vllm_it_is_one_sentence(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    backend = backend_of(f"vllm/{tiny_model}")
    assert backend
    with pytest.raises(UserError, match="no vLLM in this environment"):
        ask(backend, "", [(Context(), "Who?")], 4, Store(tmp_path), "answers")
