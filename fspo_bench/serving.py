"""What vLLM loads to answer as a run's policy, and the command that serves it.

A LoRA run is its base model with the adapter beside it, as it was trained; a run of all weights is a model
of its own that reads with its base's tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fspo_bench.errors import UserError
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.lm.models import model_dir
from fspo_bench.store import Store, digest
from fspo_bench.trained import ADAPTER, trained_folders

RESULT = "result.json"  # also scoring.RESULT, whose import is slow
SOFT_PREFIX = "soft_prefix.safetensors"  # also soft_prefix.FILE
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, that vLLM makes room for


@dataclass(frozen=True)
class Served:
    """A model, and adapters on it by the names that requests give."""

    name: str
    """Of the model without an adapter."""
    model: Path
    tokenizer: Path
    dtype: str = "auto"
    adapters: dict[str, Path] = field(default_factory=dict)
    rank: int = 0
    """Of the adapters."""

    @property
    def answers(self) -> str:
        """The name under which the policy answers."""
        return next(iter(self.adapters), self.name)

    @property
    def room(self) -> int:
        """The least rank that vLLM can be told to make room for."""
        return next(room for room in RANKS if room >= self.rank)

    @cached_property
    def key(self) -> str:
        """Of all bytes that decide what the policy answers."""
        from fspo_bench.lm.policy import weights_fingerprint

        folders = [self.model, *self.adapters.values()]
        return digest([*map(weights_fingerprint, folders), self.dtype])

    def command(self, port: int) -> list[str]:
        """What starts a server, as words of a command line."""
        words = ["vllm", "serve", str(self.model), "--served-model-name", self.name]
        if self.tokenizer != self.model:
            words += ["--tokenizer", str(self.tokenizer)]
        words += ["--dtype", self.dtype, "--port", str(port)]
        if self.adapters:
            modules = [f"{name}={folder}" for name, folder in self.adapters.items()]
            words += ["--enable-lora", "--max-lora-rank", str(self.room), "--max-loras", str(len(modules))]
            words += ["--lora-modules", *modules]
        return words


def served(name: str, store: Store) -> Served:
    """A run's folder, or any model by name (see `fspo_bench.lm.models`)."""
    if (Path(name) / RESULT).is_file():
        return served_run(Path(name), read_record(Path(name) / RESULT), store)
    folder = model_dir(name)
    return Served(name, folder, folder)


def served_run(run: Path, record: Record, store: Store) -> Served:
    """A run's policy, named by its task, method and id, which stands for all that made it.

    Raises:
        UserError: the run trained no policy, the store has it no longer, or vLLM cannot serve its kind.
    """
    parts = trained_folders(run, record, store)
    name = f"{record.task}-{record.method}-{record.id}"
    if (parts["policy"] / SOFT_PREFIX).is_file():
        raise UserError(f"run '{run}': its policy reads soft tokens of a user's latent vector, which vLLM "
                        "has no way to be given")  # fmt: skip
    base, preset = model_dir(record.model), record.spec["preset"]
    if not (parts["policy"] / ADAPTER).is_file():
        return Served(name, parts["policy"], base, preset["dtype"])
    if preset["lora_rank"] > RANKS[-1]:
        raise UserError(f"run '{run}': rank {preset['lora_rank']} is above {RANKS[-1]}, the most of vLLM")
    names = {"policy": name, "describer": f"{name}-describer"}
    folders = _once(parts)
    adapters = {names[part]: folder for part, folder in folders.items()}
    return Served(Path(record.model).name, base, base, preset["dtype"], adapters, preset["lora_rank"])


def _once(parts: dict[str, Path]) -> dict[str, Path]:
    """Without parts that are the policy itself."""
    return {part: f for part, f in parts.items() if part == "policy" or f != parts["policy"]}


def start(words: Sequence[str]) -> None:
    """Become the server.

    Raises:
        UserError: no vLLM here.
    """
    import os
    import shutil

    if not shutil.which(words[0]):
        raise UserError(
            "--start: no `vllm` on the PATH; install the extra (pip install 'fspo-bench[vllm]'), or give the "
            "command that `serve` prints without --start where vLLM is"
        )
    os.execvp(words[0], list(words))
