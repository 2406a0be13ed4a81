"""The policy: a causal LM, its tokenizer, and the trainable weights (LoRA by default)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fspo_bench.errors import UserError
from fspo_bench.models import model_dir
from fspo_bench.store import digest, file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LORA_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"]


def weights_fingerprint(folder: Path) -> str:
    """sha256 over every file that decides what the model computes: config, tokenizer, weights."""
    names = sorted(
        f.name for f in folder.iterdir() if f.suffix in (".json", ".safetensors", ".jinja", ".model", ".txt")
    )
    return digest([[name, file_sha256(folder / name)] for name in names if name != "README.md"])


@dataclass
class Policy:
    """`state` names what is in the trainable weights: "" is untouched, else a training key."""

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    lora_rank: int
    seed: int
    state: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def load(cls, name: str, lora_rank: int, dtype: str, seed: int) -> Policy:
        """Load a model by name (see `fspo_bench.models`) with untouched trainable weights."""
        from transformers import AutoModelForCausalLM, AutoTokenizer, logging

        logging.disable_progress_bar()
        folder = model_dir(name)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        if lora_rank:
            model = _with_lora(model, lora_rank, seed)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        fingerprint = digest([weights_fingerprint(folder), dtype])
        return cls(model.to(device).eval(), tokenizer, fingerprint, lora_rank, seed, device=device)

    @property
    def key(self) -> str:
        """Changes whenever the numbers the policy computes can change."""
        return digest([self.fingerprint, self.state])

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def save(self, folder: Path) -> None:
        """A folder that peft (LoRA) or transformers (full) loads."""
        self.model.save_pretrained(folder)  # type: ignore[operator]

    def restore(self, folder: Path, state: str) -> None:
        """Put saved weights back; `state` becomes the name of what is inside."""
        from safetensors.torch import load_file

        if not self.lora_rank:
            for file in sorted(folder.glob("model*.safetensors")):
                self.model.load_state_dict(load_file(file), strict=False)
        else:
            from peft import set_peft_model_state_dict

            file = folder / "adapter_model.safetensors"
            if not file.is_file():
                raise UserError(f"'{folder}' has no adapter_model.safetensors; give a folder saved by a run")
            weights = load_file(file)
            outcome = set_peft_model_state_dict(self.model, weights)
            if outcome.unexpected_keys or len(weights) != len(self.trainable()):
                raise UserError(f"the adapter in '{folder}' does not fit this model (another rank or architecture)")
        self.state = state


def _with_lora(model: torch.nn.Module, rank: int, seed: int) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_MODULES, task_type="CAUSAL_LM")
        return get_peft_model(model, config)
