"""Serving a run: the command names the weights as they were trained; the example asks as in training."""

import importlib.util
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fspo_bench.cli import main
from fspo_bench.data.tasks import Preference
from fspo_bench.errors import UserError
from fspo_bench.lm.models import model_dir
from fspo_bench.lm.prompts import Seen, chat_messages, shots_context
from fspo_bench.packs import builtin_root
from fspo_bench.serving import RANKS, Served, served
from fspo_bench.store import Store

EXAMPLES = Path(__file__).parents[1] / "examples"
Makes = Callable[..., Path]


@pytest.fixture
def made_run(own_home: Path, tmp_path: Path) -> Makes:
    """A finished run's folder, as the released one's record says, with stand-ins for its weights."""

    def made(lora_rank: int = 16, describer: bool = False, **fields: object) -> Path:
        released = builtin_root() / "leaderboards" / "released" / "roleplay-fspo" / "result.json"
        record = json.loads(released.read_text())
        record["spec"]["preset"]["lora_rank"] = lora_rank
        record |= {"model": "micro", "weights": {"policy": "p" * 64}} | fields
        if describer:
            record["weights"]["describer"] = "d" * 64
        for part, key in record["weights"].items():
            folder = Store().folder_path(key)
            folder.mkdir(parents=True, exist_ok=True)
            name = "adapter_model.safetensors" if lora_rank else "model.safetensors"
            (folder / name).write_text(part)
            (folder / ("adapter_config.json" if lora_rank else "config.json")).write_text("{}")
        run = tmp_path / "runs" / "roleplay" / "fspo" / record["id"]
        run.mkdir(parents=True, exist_ok=True)
        (run / "result.json").write_text(json.dumps(record))
        return run

    return made


def command(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    assert main(["serve", str(run), *more]) == 0
    return shlex.split(capsys.readouterr().out)


def after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_a_lora_run_is_its_base_with_the_adapter_as_it_is(
    made_run: Makes, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_run(lora_rank=20, describer=True)
    words = command(run, capsys, "--port", "8123")
    assert words[:3] == ["vllm", "serve", str(model_dir("micro"))]
    assert (after(words, "--served-model-name"), after(words, "--port")) == ("micro", "8123")
    assert (after(words, "--max-lora-rank"), after(words, "--max-loras")) == ("32", "2")
    name = f"roleplay-fspo-{run.name}"
    folders = Store().root / "folders"
    assert words[words.index("--lora-modules") + 1 :] == [
        f"{name}={folders / ('p' * 64)}",
        f"{name}-describer={folders / ('d' * 64)}",
    ]
    assert "--tokenizer" not in words


def test_a_run_of_all_weights_is_a_model_with_its_bases_tokenizer(
    made_run: Makes, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_run(lora_rank=0)
    words = command(run, capsys)
    assert words[2] == str(Store().folder_path("p" * 64))
    assert after(words, "--tokenizer") == str(model_dir("micro"))
    assert after(words, "--served-model-name") == f"roleplay-fspo-{run.name}"
    assert "--enable-lora" not in words


def test_json_names_the_model_to_ask(made_run: Makes, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run()
    assert main(["serve", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == f"roleplay-fspo-{run.name}"
    assert told["command"][:2] == ["vllm", "serve"]


def test_start_becomes_the_server_or_says_what_lacks(
    made_run: Makes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, became = made_run(), []
    monkeypatch.setattr("os.execvp", lambda file, words: became.append((file, words)))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["serve", str(run), "--start"]) == 2
    assert "no `vllm` on the PATH" in capsys.readouterr().err
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    words = command(run, capsys, "--start")
    assert became == [("vllm", words)]


def test_what_cannot_be_served_is_one_sentence(made_run: Makes) -> None:
    for fields, said in (
        ({"weights": {}, "parameters": 0, "method": "few_shot"}, "trains no policy"),
        ({"weights": {"policy": "p" * 64}, "lora_rank": 513}, "rank 513 is above 512"),
    ):
        with pytest.raises(UserError, match=said):
            served(str(made_run(**fields)), Store())
    run = made_run()
    folder = Store().folder_path("p" * 64)
    (folder / "soft_prefix.safetensors").write_text("")
    with pytest.raises(UserError, match="soft tokens"):
        served(str(run), Store())
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="not in the store"):
        served(str(run), Store())


def test_the_key_follows_the_adapters_bytes(made_run: Makes) -> None:
    run = made_run()
    before = served(str(run), Store()).key
    assert served(str(run), Store()).key == before
    (Store().folder_path("p" * 64) / "adapter_model.safetensors").write_text("other")
    assert served(str(run), Store()).key != before
    assert served("micro", Store()).key != before


@pytest.mark.parametrize(("rank", "room"), [(1, 8), (16, 16), (17, 32), (512, 512)])
def test_room_for_an_adapter(rank: int, room: int) -> None:
    assert Served("", Path(), Path(), rank=rank).room == room
    assert room in RANKS


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("personal_answers", EXAMPLES / "personal_answers.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("both_sides", [False, True])
def test_the_example_lays_shots_out_as_training_does(both_sides: bool) -> None:
    user = json.loads((EXAMPLES / "user.json").read_text())
    shots = tuple(
        Preference(f"q{n}", s["prompt"], s["chosen"], s["rejected"]) for n, s in enumerate(user["shots"])
    )
    mine = example().messages_of_both_sides(user) if both_sides else example().messages(user)
    context = shots_context(Seen(shots, show_rejected=both_sides))
    assert mine == chat_messages(user["instruction"], context, user["question"])
