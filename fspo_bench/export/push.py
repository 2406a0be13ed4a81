"""A trained run as a folder ready for the Hugging Face Hub, and its upload."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fspo_bench.data.tasks import Task
from fspo_bench.errors import Stopped, UserError
from fspo_bench.evaluate.results import Record
from fspo_bench.evaluate.scoring import RESULT
from fspo_bench.export.model_card import Pushed, model_card
from fspo_bench.lm.models import hub_id, model_dir
from fspo_bench.lm.prompts import PromptEncoder
from fspo_bench.method import Method, open_methods
from fspo_bench.packs import Found
from fspo_bench.presets import Preset
from fspo_bench.store import Store, building
from fspo_bench.trained import ADAPTER, trained_folders

KEPT = (".safetensors", "adapter_config.json", "config.json", "generation_config.json")


def write_folder(
    run: Path, record: Record, task: Task, methods: Sequence[Found], out: Path, name: str, store: Store
) -> Path:
    """Weights, config, tokenizer, record and card of a run; an older folder of the same run is replaced.

    Args:
        run: the run's folder.
        record: its record.
        task: what it was trained on.
        methods: where the run's method is looked for, to show what the model reads.
        out: the folder to write.
        name: what the card calls the model: `OWNER/NAME`, or a path.
        store: where the weights are.

    Raises:
        UserError: the run is partial or trained no policy, or `out` is something else.
    """
    from transformers import AutoTokenizer

    if not record.complete:
        raise UserError(f"run '{run}' is partial (--limit {record.spec['limit']}); run it without --limit")
    parts = trained_folders(run, record, store)
    _refuse_other(out, record)
    base = model_dir(record.model)
    tokenizer = AutoTokenizer.from_pretrained(base)
    pushed = Pushed(
        name, record, task, (parts["policy"] / ADAPTER).is_file(), base, tuple(parts),
        _method_of(record, methods),
        PromptEncoder(tokenizer, task.spec.instruction, record.spec["preset"]["chat_template"]),
    )  # fmt: skip
    with building(out) as scratch:
        for part, folder in parts.items():
            _copy(folder, scratch if part == "policy" else scratch / part, hub_id(record.model) or base.name)
        tokenizer.save_pretrained(scratch)
        scratch.joinpath(RESULT).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        scratch.joinpath("README.md").write_text(model_card(pushed), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
    return out


def _refuse_other(out: Path, record: Record) -> None:
    if not out.exists():
        return
    try:
        mine = json.loads((out / RESULT).read_text(encoding="utf-8"))["id"] == record.id
    except (OSError, ValueError, KeyError):
        mine = False
    if not mine:
        raise UserError(f"--out: '{out}' is there already and holds something else; give another folder")


def _method_of(record: Record, among: Sequence[Found]) -> Method | None:
    """The method that made a run, with its settings; None where its file is not here or has changed."""
    made = record.spec["method"]
    found = [f for f in among if f.name == record.method]
    if len(found) != 1:
        return None
    ((method, _),) = open_methods(found, Preset(**record.spec["preset"]), made["changed"], among=among)
    return method if method.hash == made["hash"] else None


def _copy(folder: Path, to: Path, base: str) -> None:
    """The weights and their config, without the path of the base on this machine."""
    to.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if file.name.endswith(KEPT):
            shutil.copyfile(file, to / file.name)
    config = to / "adapter_config.json"
    if config.is_file():
        settings: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        settings["base_model_name_or_path"] = base
        config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def upload(folder: Path, name: str) -> str:
    """Put the folder on the Hub as `OWNER/NAME`, private where it is new; its address.

    Raises:
        UserError: no such name can be, or there is no token.
        Stopped: the Hub refuses or does not answer.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    if name.count("/") != 1:
        raise UserError(f"--to '{name}': write OWNER/NAME, as the Hub names models")
    if not get_token():
        raise UserError(
            "--to: there is no token for the Hub; give `hf auth login`, or set HF_TOKEN, and again"
        )
    api = HfApi()
    try:
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="fspo-bench push")
    except HFValidationError as error:
        raise UserError(f"--to '{name}': {str(error).splitlines()[0]}") from None
    except (HTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Stopped(
            f"the Hub did not take '{name}' ({reason}); the folder is '{folder}', give the same command again"
        ) from None
    return str(address)
