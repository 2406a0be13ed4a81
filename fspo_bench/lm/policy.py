"""The policy: a causal LM, its tokenizer, and the trainable weights (LoRA by default)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fspo_bench.errors import UserError
from fspo_bench.lm import soft_prefix
from fspo_bench.lm.asked import backend_of
from fspo_bench.lm.models import model_dir
from fspo_bench.lm.shared_context import causal_lm
from fspo_bench.progress import say
from fspo_bench.store import digest, file_sha256

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from fspo_bench.judge.calls import Backend

LORA_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"]


def weights_fingerprint(folder: Path) -> str:
    """sha256 over every file that decides what the model computes: config, tokenizer, weights."""
    kinds = (".json", ".safetensors", ".jinja", ".model", ".txt")
    return digest([[f.name, file_sha256(f)] for f in sorted(folder.iterdir()) if f.suffix in kinds])


@dataclass
class Policy:
    """Weights are read on first use, so a run whose every result is stored never loads them.

    `state` names what the trainable weights are to be: "" is untouched, else a state made known by
    `restore` or `trained`. Setting it costs nothing until `model` is asked for.
    """

    folder: Path
    fingerprint: str
    lora_rank: int
    dtype: str
    seed: int
    state: str = ""
    soft: tuple[int, int] | None = None
    """Width of latent vectors and number of soft tokens, for a policy that reads some."""
    backend: Backend | None = None
    """Who answers, where there are no weights here (see `fspo_bench.lm.asked`)."""
    _in_memory: str = ""
    _folders: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def open(cls, name: str, lora_rank: int, dtype: str, seed: int) -> Policy:
        """A model by name (see `fspo_bench.lm.models`) with untouched trainable weights."""
        if backend := backend_of(name):
            return cls(Path(), digest([backend.key]), lora_rank, dtype, seed, backend=backend)
        folder = model_dir(name)
        return cls(folder, digest([weights_fingerprint(folder), dtype]), lora_rank, dtype, seed)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def _model(self) -> torch.nn.Module:
        import torch
        from transformers import AutoModelForCausalLM, logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        say(f"loading {self.folder.name}")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=getattr(torch, self.dtype), attn_implementation="sdpa"
        )
        if self.lora_rank:
            model = _with_lora(model, self.lora_rank, self.seed)
        ready: torch.nn.Module = model.to(device).eval()
        return ready

    @cached_property
    def _untouched(self) -> dict[str, torch.Tensor]:
        """The trainable weights before any training."""
        if self.lora_rank:
            return {name: p.detach().clone() for name, p in self._model.named_parameters() if p.requires_grad}
        from safetensors.torch import load_file

        shards = sorted(self.folder.glob("model*.safetensors"))  # large models come in several
        return {name: tensor for shard in shards for name, tensor in load_file(shard).items()}

    @property
    def model(self) -> torch.nn.Module:
        """The model with the weights that `state` names."""
        self._untouched  # noqa: B018  taken before anything can change the weights
        lacking = self.soft and not hasattr(causal_lm(self._model), "soft_prefix")
        if lacking or self._in_memory != self.state:
            folder = self._folders.get(self.state)
            self._put(folder)
            if self.soft:
                self._put_soft_prefix(*self.soft, folder)
            self._in_memory = self.state
        return self._model

    def without_weights(self) -> Policy:
        """The same policy for another process, which reads the weights from the same folders."""
        return replace(self, _in_memory="")

    @property
    def key(self) -> str:
        """Changes whenever the numbers the policy computes can change."""
        return digest([self.fingerprint, self.state])

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def trained_parameters(self) -> int:
        """How many numbers the current state's training changed (0 for the untouched model)."""
        from safetensors import safe_open

        if self.state not in self._folders:
            return 0
        count = 0
        for file in self._folders[self.state].glob("*.safetensors"):
            with safe_open(file, "pt") as tensors:
                count += sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
        return count

    def save(self, folder: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        """A folder that peft (LoRA) or transformers (full) loads; `weights` in place of those in memory."""
        given = {"state_dict": weights} if weights else {}
        self.model.save_pretrained(folder, **given)  # type: ignore[operator]
        if self.soft:
            soft_prefix.save(causal_lm(self.model), folder)

    def trained(self, state: str, folder: Path) -> None:
        """Say that the weights in memory are now `state`, saved in `folder`."""
        self._folders[state] = folder
        self.state = self._in_memory = state

    def forget(self) -> None:
        """Let go of the weights in memory; they are read again when needed."""
        self.__dict__.pop("_model", None)
        self._in_memory = ""

    def restore(self, state: str, folder: Path) -> None:
        """Take on saved weights (read when next needed)."""
        file = folder / ("adapter_model.safetensors" if self.lora_rank else "model.safetensors")
        if not file.is_file():
            raise UserError(f"'{folder}' has no {file.name}; give a folder of trained weights saved by a run")
        self._folders[state] = folder
        self.state = state

    def _put_soft_prefix(self, width: int, tokens: int, folder: Path | None) -> None:
        """After the weights: a new one is as small as their embeddings are."""
        lm = causal_lm(self._model)
        soft_prefix.attach(lm, width, tokens, self.seed)
        if folder and (folder / soft_prefix.FILE).is_file():
            soft_prefix.load(lm, folder)

    def _put(self, folder: Path | None) -> None:
        from safetensors.torch import load_file

        if not self.lora_rank or folder is None:
            weights = load_file(folder / "model.safetensors") if folder else self._untouched
            self._model.load_state_dict(weights, strict=False)
            return
        from peft import set_peft_model_state_dict

        weights = load_file(folder / "adapter_model.safetensors")
        mine = self._model.named_parameters()
        wanted = sorted(tuple(p.shape) for n, p in mine if p.requires_grad and "soft_prefix" not in n)
        if wanted != sorted(tuple(w.shape) for w in weights.values()):
            raise UserError(
                f"the adapter in '{folder}' does not fit this model (another rank or architecture)"
            )
        set_peft_model_state_dict(self._model, weights)


def _with_lora(model: torch.nn.Module, rank: int, seed: int) -> torch.nn.Module:
    import torch
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_MODULES, task_type="CAUSAL_LM")
        wrapped: torch.nn.Module = get_peft_model(model, config)
    return wrapped
