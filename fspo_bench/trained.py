"""The weights that a finished run trained: folders that peft (LoRA) or transformers (all weights) loads."""

from __future__ import annotations

from pathlib import Path

from fspo_bench.errors import UserError
from fspo_bench.evaluate.results import Record
from fspo_bench.store import Store

ADAPTER = "adapter_model.safetensors"
"""In a folder of LoRA weights; one of all weights has `model.safetensors`."""


def trained_folders(run: Path, record: Record, store: Store) -> dict[str, Path]:
    """By part: `policy`, and `describer` where another state first writes what the policy reads.

    Raises:
        UserError: the run trained no policy, or the store no longer has it.
    """
    again = f"remove '{run / 'result.json'}' and give its command again"
    if not record.weights and record.parameters and "weights" not in record.model_fields_set:
        raise UserError(f"run '{run}' was finished before records named their weights; {again}")
    if not record.weights:
        raise UserError(f"run '{run}' has no weights: method '{record.label}' trains no policy")
    folders = {part: store.folder_path(key) for part, key in record.weights.items()}
    for part, folder in folders.items():
        if not folder.is_dir():
            raise UserError(
                f"run '{run}': its {part} is not in the store '{store.root}'; set FSPO_BENCH_HOME to "
                f"where it was trained, or {again} to train it anew"
            )
    return folders
