"""TRL's DPOTrainer on given token ids, run as its own training loop would run it.

Its settings are the fastest valid ones: no truncation (the default drops long prompts), no gradient
checkpointing, reference log-probs given, no mixed precision on top of the weights' dtype. The two
overrides only keep it from tokenising and from scoring the reference itself.
"""

from __future__ import annotations

import tempfile
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks.shapes import PAD
from fspo_bench.lm.train import Encoded

MISSING = "trl is not installed (pip install 'fspo-bench[bench]')"


def has_trl() -> bool:
    """Whether the comparator can be imported here."""
    return find_spec("trl") is not None


def examples(episode: Encoded, reference: list[float]) -> list[dict[str, Any]]:
    """The episode's pairs as TRL's collator takes them: every prompt holds the whole context."""
    rows = []
    for n in range(0, len(episode.branches), 2):
        chosen, rejected = episode.branches[n : n + 2]
        rows.append(
            {
                "prompt_ids": list(episode.prefix + chosen.given),
                "chosen_ids": list(chosen.scored),
                "rejected_ids": list(rejected.scored),
                "ref_chosen_logps": reference[n],
                "ref_rejected_logps": reference[n + 1],
            }
        )
    return rows


class TrlSide:
    """One episode through a DPOTrainer, `batch` pairs at a time."""

    def __init__(
        self, model: LlamaForCausalLM, episode: Encoded, reference: list[float], batch: int, beta: float
    ) -> None:
        self.rows = examples(episode, reference)
        self.batch = batch
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = _trainer(model, self.rows, batch, beta, self.folder.name)
        self.model = self.trainer.accelerator.prepare_model(self.trainer.model)
        self.trainer.current_gradient_accumulation_steps = len(self.rows) // batch

    def _batches(self) -> list[dict[str, Any]]:
        starts = range(0, len(self.rows), self.batch)
        return [self.trainer.data_collator(self.rows[s : s + self.batch]) for s in starts]

    def gradients(self) -> float:
        """Forward and backward over the episode; gradients add up in the model. Returns the loss."""
        losses = [self.trainer.training_step(self.model, inputs) for inputs in self._batches()]
        return float(sum(losses))

    def logprobs(self) -> list[float]:
        """What its `precompute_ref_log_probs` computes, in the order of the episode's branches."""
        sums: list[float] = []
        for inputs in self._batches():
            ready = self.trainer._prepare_inputs(inputs)
            chosen, rejected = self.trainer.compute_ref_log_probs(self.model, ready)
            sums += torch.stack([chosen, rejected], 1).flatten().tolist()
        return sums


def _trainer(
    model: LlamaForCausalLM, rows: list[dict[str, Any]], batch: int, beta: float, folder: str
) -> Any:
    from datasets import Dataset
    from trl import DPOConfig

    on_cpu = model.device.type == "cpu"
    args = DPOConfig(
        output_dir=folder, per_device_train_batch_size=batch, gradient_accumulation_steps=len(rows) // batch,
        loss_type=["sigmoid"], beta=beta, max_length=None, precompute_ref_log_probs=True,
        gradient_checkpointing=False, bf16=False, fp16=False, use_cpu=on_cpu, dataloader_pin_memory=False,
        report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    return _trainer_class()(
        model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=_pad_tokenizer()
    )


@cache
def _trainer_class() -> Any:
    from trl import DPOTrainer

    class GivenIds(DPOTrainer):  # type: ignore[misc]
        """A DPOTrainer whose rows come with token ids and reference log-probs."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
            return dataset

    return GivenIds


def _pad_tokenizer() -> PreTrainedTokenizerBase:
    """The trainer wants a tokenizer for its padding id; no text is ever read."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<pad>": PAD, "<end>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )


def saved_bytes(side: TrlSide) -> int:
    """Bytes that one forward keeps for its backward, without the weights: grows with the batch."""
    weights = {p.untyped_storage().data_ptr() for p in side.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        side.gradients()
    side.model.zero_grad()
    return sum(kept.values())
