"""The released adapters: small, safe to load, free of machine paths, and started from by name."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from fspo_bench.evaluate.results import read_record
from fspo_bench.packs import builtin_root
from fspo_bench.plan import _init

RELEASED = sorted((builtin_root() / "leaderboards" / "released").iterdir())


@pytest.mark.parametrize("folder", RELEASED, ids=lambda f: f.name)
def test_a_released_adapter_is_complete(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    assert weights.stat().st_size < 5_000_000
    with safe_open(weights, "numpy") as tensors:
        assert any("lora_A" in name for name in tensors.keys())  # noqa: SIM118
    config = json.loads((folder / "adapter_config.json").read_text())
    assert not config["base_model_name_or_path"].startswith("/")
    record = read_record(folder / "result.json")
    assert record.complete
    assert folder.name == f"{record.task}-{record.method}"


def test_released_is_found_by_task_and_method() -> None:
    assert _init("released", "roleplay", "fspo") in RELEASED
