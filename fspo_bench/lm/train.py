"""The one training loop: stages of SFT, IPO or DPO over episodes, on accelerate and peft.

Every step is the shared-context step (`fspo_bench.lm.shared_context`). A finished stage is a folder in
the store whose key covers model bytes, token ids, settings and seed; an unfinished one keeps
checkpoints beside it, and the same command goes on from the last with the same result.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fspo_bench.lm.losses import PREFERENCE_LOSSES, log_ratio_margin
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.shared_context import Branch, backward_through_context, score
from fspo_bench.presets import Preset
from fspo_bench.progress import say, track
from fspo_bench.store import Store, building, digest

CHECKPOINT_EVERY = 8  # steps
VERSION = 2  # raise when the loop's arithmetic changes


@dataclass(frozen=True)
class Stage:
    """One pass over `contexts` contexts with one loss: "sft", "ipo" or "dpo"."""

    loss: str
    contexts: int
    lr: float
    beta: float = 0.0
    contexts_per_step: int = 1
    targets: str = "chosen"
    """What "sft" fits of a preference: the `chosen` answer, or `both`."""


def two_stages(loss: str, preset: Preset) -> list[Stage]:
    """FSPO's stages: maximum likelihood, then a preference loss with that as its reference."""
    beta = preset.ipo_beta if loss == "ipo" else preset.dpo_beta
    together = preset.contexts_per_step
    return [
        Stage("sft", preset.sft_contexts, preset.sft_lr, contexts_per_step=together),
        Stage(loss, preset.contexts, preset.lr, beta, together),
    ]


@dataclass(frozen=True)
class Encoded:
    """A tree of token ids: the shared context and the answers behind it.

    A preference loss reads the branches as chosen, rejected, chosen, ...; "sft" fits every branch,
    each with its weight (1 if none are given; below 0 the branch is made less likely).
    """

    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]
    weights: tuple[float, ...] = ()
    latent: tuple[float, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that one pass runs: a question shared by neighbouring branches runs once."""
        questions = sum(len(given) for given, _ in groupby(b.given for b in self.branches))
        return len(self.prefix) + questions + sum(len(b.scored) for b in self.branches)


def reference_logprobs(policy: Policy, episode: Encoded, chunk: int, store: Store) -> list[float]:
    """Summed log-probs of an episode's branches under the policy as it is now, from the store if known."""
    key = digest(["logprobs", VERSION, policy.key, asdict(episode)])
    known = store.get(key)
    if known is None:
        known = score(policy.model, episode.prefix, list(episode.branches), chunk, episode.latent)
        store.put(key, known)
    return [float(x) for x in known]


def train_stage(policy: Policy, stage: Stage, episodes: Sequence[Encoded], chunk: int, store: Store) -> None:
    """Train `policy` in place through one stage, or load the finished stage from the store."""
    key = digest(
        [
            "train",
            VERSION,
            policy.key,
            policy.lora_rank,
            policy.seed,
            policy.soft,
            asdict(stage),
            [asdict(e) for e in episodes],
        ]
    )
    with store.alone(key):
        _train_stage(policy, stage, episodes, chunk, store, key)


def _train_stage(
    policy: Policy, stage: Stage, episodes: Sequence[Encoded], chunk: int, store: Store, key: str
) -> None:
    label = f"train {stage.loss}"
    if store.has_folder(key):
        say(f"{label}: {len(episodes)} contexts, in store")
        policy.restore(key, store.folder_path(key))
        return
    losses = _episode_losses(policy, stage, episodes, chunk, store)
    _loop(policy, stage, episodes, losses, chunk, store.partial_path(key), label)
    partial = store.partial_path(key)
    for leftover in partial.glob("step-*"):
        shutil.rmtree(leftover)
    policy.save(partial)
    policy.trained(key, store.finish_folder(key))


EpisodeLoss = Callable[[Tensor, slice], Tensor]


def _episode_losses(
    policy: Policy, stage: Stage, episodes: Sequence[Encoded], chunk: int, store: Store
) -> list[EpisodeLoss]:
    """For each episode, the map from a chunk's log-probs to its share of the episode's mean loss."""
    if stage.loss == "sft":
        return [_sft_loss(e) for e in episodes]
    references = [
        torch.tensor(reference_logprobs(policy, e, chunk, store), dtype=torch.float64)
        for e in track(episodes, "reference log-probs")
    ]
    return [_preference_loss(stage, r) for r in references]


def _sft_loss(episode: Encoded) -> EpisodeLoss:
    """Weighted mean over the answers of their negative log-likelihood per token."""
    lengths = [len(b.scored) for b in episode.branches]
    weights = episode.weights or (1.0,) * len(lengths)
    shares = [w / n / len(lengths) for w, n in zip(weights, lengths, strict=True)]

    def loss(logprobs: Tensor, place: slice) -> Tensor:
        return -(logprobs * logprobs.new_tensor(shares[place])).sum()

    return loss


def _preference_loss(stage: Stage, reference: Tensor) -> EpisodeLoss:
    """Mean over the episode's pairs of the stage's loss of h; rows stand chosen, rejected, chosen, …"""

    def loss(logprobs: Tensor, place: slice) -> Tensor:
        ref = reference[place].to(logprobs.device)
        h = log_ratio_margin(logprobs[0::2], logprobs[1::2], ref[0::2], ref[1::2])
        return PREFERENCE_LOSSES[stage.loss](h, stage.beta).sum() / (len(reference) // 2)

    return loss


def _loop(
    policy: Policy,
    stage: Stage,
    episodes: Sequence[Encoded],
    losses: Sequence[EpisodeLoss],
    chunk: int,
    partial: Path,
    label: str,
) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=not torch.cuda.is_available())  # no other device: sums are in fp64
    parameters = policy.trainable()
    steps = -(-len(episodes) // stage.contexts_per_step)
    optimizer = torch.optim.AdamW(parameters.values(), lr=stage.lr, weight_decay=0.0, betas=(0.9, 0.95))
    model, optimizer = accelerator.prepare(policy.model, optimizer)
    done, history = _resume(parameters, optimizer, partial)
    for step in track(range(done, steps), label):
        batch = range(
            step * stage.contexts_per_step, min((step + 1) * stage.contexts_per_step, len(episodes))
        )
        total = 0.0
        for index in batch:
            episode = episodes[index]
            share = _scaled(losses[index], 1 / len(batch))
            total += backward_through_context(
                model, episode.prefix, episode.branches, share, chunk, episode.latent
            )[0]
        accelerator.clip_grad_norm_(parameters.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * _rate(step, steps)
        optimizer.step()
        optimizer.zero_grad()
        history.append(round(total, 6))
        if (step + 1) % CHECKPOINT_EVERY == 0 and step + 1 < steps:
            _checkpoint(parameters, optimizer, history, partial, step + 1)
    partial.mkdir(parents=True, exist_ok=True)
    (partial / "losses.json").write_text(json.dumps(history))


def _scaled(loss: EpisodeLoss, factor: float) -> EpisodeLoss:
    return lambda logprobs, place: loss(logprobs, place) * factor


def _rate(step: int, steps: int) -> float:
    """Linear warm-up over a tenth of the steps, then linear decay to a tenth of the rate."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 1 - 0.9 * (step - warm) / max(1, steps - warm)


def _checkpoint(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    history: list[float],
    partial: Path,
    step: int,
) -> None:
    final = partial / f"step-{step}"
    with building(final) as scratch:
        tensors = {f"weight.{name}": p.detach().contiguous() for name, p in parameters.items()}
        for name, p in parameters.items():
            for field, value in optimizer.state[p].items():
                tensors[f"{field}.{name}"] = value.detach().clone()
        save_file(tensors, scratch / "state.safetensors")
        (scratch / "losses.json").write_text(json.dumps(history))
    for old in partial.glob("step-*"):
        if old != final:
            shutil.rmtree(old)


def _resume(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, partial: Path
) -> tuple[int, list[float]]:
    checkpoints = sorted(partial.glob("step-*"), key=lambda p: int(p.name.split("-")[1]))
    if not checkpoints:
        return 0, []
    last = checkpoints[-1]
    tensors = load_file(last / "state.safetensors")
    for name, p in parameters.items():
        p.data.copy_(tensors[f"weight.{name}"])
        fields = {key.split(".", 1)[0] for key in tensors if key.split(".", 1)[1] == name} - {"weight"}
        optimizer.state[p] = {
            field: tensors[f"{field}.{name}"].to(p.device if field != "step" else "cpu") for field in fields
        }
    step = int(last.name.split("-")[1])
    say(f"resuming training at step {step}")
    return step, json.loads((last / "losses.json").read_text())
