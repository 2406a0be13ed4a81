"""A run for the Hub: what the folder holds, what its card says, what is refused, and the upload."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub.errors import RepositoryNotFoundError
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

from fspo_bench.cli import main
from fspo_bench.lm.policy import Policy
from fspo_bench.method import open_methods
from fspo_bench.packs import find_methods, packs, resolve
from fspo_bench.store import Store
from tests.conftest import SMALL
from tests.made import a_record

METHODS = find_methods(packs()[:1])


@pytest.fixture
def finished(tmp_path: Path, tiny_model: Path, made_task: Path) -> Callable[..., Path]:
    """The folder of a finished run of FSPO whose adapter is in the store; `changes` to its record."""

    def finished(**changes: Any) -> Path:
        policy = Policy.open(str(tiny_model), 4, "float32", 0)
        folder = Store().folder_path("adapter")
        if not folder.is_dir():
            with torch.no_grad():
                for name, p in policy.trainable().items():
                    p.fill_(0.05 if "lora_B" in name else 0.02)
            policy.save(folder)
        ((method, preset),) = open_methods([resolve("fspo", METHODS, "method")], SMALL, {})
        spec = {
            "task": {"name": "made", "version": 1, "hash": "a" * 64}, "limit": None,
            "method": {"name": "fspo", "hash": method.hash, "config": {"loss": "ipo"}, "changed": {}},
            "preset": {**asdict(preset), "model": str(tiny_model)},
        }  # fmt: skip
        record = a_record(model=str(tiny_model), spec=spec, **{"weights": {"policy": "adapter"}, **changes})
        run = tmp_path / "runs" / "made" / "fspo" / record.id
        run.mkdir(parents=True, exist_ok=True)
        run.joinpath("result.json").write_text(record.model_dump_json())
        return run

    return finished


def push(run: Path, task: Path, *more: str) -> int:
    return main(["push", str(run), "--task", str(task), *more])


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, text = folder.joinpath("README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_folder_loads_as_peft_loads_and_says_nothing_of_this_machine(
    finished: Callable[..., Path], made_task: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert push(finished(), made_task, "--out", str(out)) == 0
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny_model.name
    for file in ("adapter_config.json", "tokenizer_config.json", "README.md"):
        assert str(tiny_model) not in (out / file).read_text()
    (out / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": str(tiny_model)})
    )
    model = AutoPeftModelForCausalLM.from_pretrained(out)
    trained = [p for name, p in model.named_parameters() if "lora_B" in name]
    assert trained and all(torch.all(p == 0.05) for p in trained)
    assert AutoTokenizer.from_pretrained(out)("walk").input_ids
    assert json.loads((out / "result.json").read_text())["id"] == "0123456789"


def test_the_card_states_rates_with_n_and_interval(finished: Callable[..., Path], made_task: Path) -> None:
    run = finished()
    assert push(run, made_task) == 0
    head, text = card_of(run / "push")
    assert (head["library_name"], head["license"]) == ("peft", "other")
    (index,) = head["model-index"]
    wins = index["results"][0]["metrics"][0]
    assert (wins["type"], wins["value"]) == ("win_rate", 61.25)
    assert wins["args"] == {"n": 35, "users": 7, "questions": 5, "ci95": [55.04, 67.46]}
    assert "| win rate vs base | 61.2 [55.0, 67.5] | 7 | 5 | 35 |" in text
    assert "| personal gain | +4.2 [-1.0, 9.4] | 7 | 5 | 35 |" in text
    for part in ("fspo-bench run", "CC0-1.0", "What it is not for", "right on 81.2% [77.0, 85.5]"):
        assert part in text
    assert "<|user|>FIRST QUESTION<|end|><|user|>THE ANSWER THIS USER PREFERRED<|end|>" in text
    assert "<|user|>THE QUESTION<|end|><|assistant|>" in text


def test_again_replaces_the_same_run_and_nothing_else(
    finished: Callable[..., Path], made_task: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run, out = finished(), tmp_path / "out"
    assert push(run, made_task, "--out", str(out)) == 0
    (out / "README.md").write_text("edited")
    assert push(run, made_task, "--out", str(out)) == 0
    assert (out / "README.md").read_text() != "edited"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all my work")
    capsys.readouterr()
    assert push(run, made_task, "--out", str(mine)) == 2
    assert "is there already and holds something else" in capsys.readouterr().err
    assert [f.name for f in mine.iterdir()] == ["thesis.txt"]


def test_a_method_whose_file_changed_shows_no_prompt(finished: Callable[..., Path], made_task: Path) -> None:
    run = finished(method="fspo_of_mine")
    assert push(run, made_task) == 0
    assert "What it reads is built by method `fspo_of_mine`" in card_of(run / "push")[1]


REFUSED = [
    ({"complete": False}, "is partial (--limit None); run it without --limit"),
    ({"weights": {}}, "has no weights: method 'fspo' trains no policy"),
    ({"weights": {"policy": "elsewhere"}}, "its policy is not in the store"),
]


@pytest.mark.parametrize(("changes", "says"), REFUSED)
def test_what_cannot_be_pushed_is_one_sentence(
    finished: Callable[..., Path], made_task: Path, capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any], says: str,
) -> None:  # fmt: skip
    run = finished(**changes)
    capsys.readouterr()
    assert push(run, made_task) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (run / "push").exists()


def test_an_unfinished_run_and_one_of_an_older_version_are_refused(
    finished: Callable[..., Path], made_task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(parameters=10)
    old = json.loads((run / "result.json").read_text())
    del old["weights"]
    (run / "result.json").write_text(json.dumps(old))
    assert push(run, made_task) == 2
    assert "finished before records named their weights" in capsys.readouterr().err
    (run / "result.json").unlink()
    assert push(run, made_task) == 2
    assert "is not finished" in capsys.readouterr().err


class FakeHub:
    """Stands for `HfApi`; remembers what it was asked."""

    asked: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        FakeHub.asked = []

    def create_repo(self, repo_id: str, **given: Any) -> str:
        self.asked.append((repo_id, given))
        return f"https://hub/{repo_id}"

    def upload_folder(self, **given: Any) -> None:
        self.asked.append(("upload", given))


class RefusingHub(FakeHub):
    """A Hub that knows no such owner."""

    def create_repo(self, repo_id: str, **given: Any) -> str:
        raise RepositoryNotFoundError(f"403 Forbidden: {repo_id}\nmore", response=Refusal())


class Refusal:
    """As much of a response as the error reads."""

    headers: dict[str, str] = {}  # noqa: RUF012
    request = None


def test_an_upload_is_private_and_of_the_written_folder(
    finished: Callable[..., Path], made_task: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    run = finished()
    assert push(run, made_task, "--to", "me/mine") == 0
    assert capsys.readouterr().out.startswith("https://hub/me/mine\n")
    (repo, given), (_, upload) = FakeHub.asked
    assert (repo, given) == ("me/mine", {"private": True, "exist_ok": True})
    assert upload["folder_path"] == run / "push"
    head, text = card_of(run / "push")
    assert head["model-index"][0]["name"] == "mine"
    assert 'from_pretrained("me/mine")' in text


def test_an_upload_that_cannot_be_is_one_sentence(
    finished: Callable[..., Path], made_task: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = finished()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert push(run, made_task, "--to", "me/mine") == 2
    assert "there is no token for the Hub" in capsys.readouterr().err
    assert push(run, made_task, "--to", "mine") == 2
    assert "write OWNER/NAME" in capsys.readouterr().err
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    assert push(run, made_task, "--to", "me/mine mine") == 2
    assert "--to 'me/mine mine'" in capsys.readouterr().err
    assert push(run, made_task, "--to", "me/mine") == 1  # HF_HUB_OFFLINE, as every test has it
    err = capsys.readouterr().err
    assert "the Hub did not take 'me/mine'" in err and err.count("\n") == 1
    monkeypatch.setattr(huggingface_hub, "HfApi", RefusingHub)
    assert push(run, made_task, "--to", "me/mine") == 1
    assert "(403 Forbidden: me/mine)" in capsys.readouterr().err
