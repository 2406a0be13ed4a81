"""The one training loop: stages of SFT, IPO or DPO over episodes.

Every step is the shared-context step (`fspo_bench.lm.shared_context`). A finished stage is a folder in
the store whose key covers model bytes, token ids, settings and seed; an unfinished one keeps
checkpoints beside it, and the same command goes on from the last with the same result.

Several processes (`fspo_bench.team`) split the contexts of each step and sum their gradients. Every
context weighs what it weighs in one process, so the curve is the same but for the order of sums, and
checkpoints know nothing of how many there were.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fspo_bench import team
from fspo_bench.errors import UserError
from fspo_bench.lm import sharded
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
    if store.has_folder(key):
        say(f"train {stage.loss}: {len(episodes)} contexts, in store")
        policy.restore(key, store.folder_path(key))
        return
    if sharded.wanted() and policy.lora_rank:
        raise UserError("FSDP is for training all weights (--set lora_rank=0); with LoRA, launch without it")
    team.call(_train, policy.without_weights(), stage, episodes, chunk, store, key)
    _train(policy, stage, episodes, chunk, store, key)
    for leftover in store.partial_path(key).glob("step-*"):
        shutil.rmtree(leftover)
    folder = store.finish_folder(key)
    if sharded.wanted():
        policy.forget()
        policy.restore(key, folder)
    else:
        policy.trained(key, folder)


EpisodeLoss = Callable[[Tensor, slice], Tensor]


def _episode_losses(
    policy: Policy, stage: Stage, episodes: Sequence[Encoded], mine: Sequence[int], chunk: int, store: Store
) -> dict[int, EpisodeLoss]:
    """For each of my episodes, the map from a chunk's log-probs to its share of the episode's mean loss."""
    if stage.loss == "sft":
        return {n: _sft_loss(episodes[n]) for n in mine}
    references = {
        n: torch.tensor(reference_logprobs(policy, episodes[n], chunk, store), dtype=torch.float64)
        for n in track(mine, "reference log-probs")
    }
    return {n: _preference_loss(stage, reference) for n, reference in references.items()}


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


def _train(
    policy: Policy, stage: Stage, episodes: Sequence[Encoded], chunk: int, store: Store, key: str
) -> None:
    """Train through the stage's steps, together with the other processes; the first saves the weights."""
    places, size, partial = range(len(episodes)), stage.contexts_per_step, store.partial_path(key)
    batches = [places[n : n + size] for n in places[::size]]
    mine = [n for batch in batches for n in team.share(batch)]
    losses = _episode_losses(policy, stage, episodes, mine, chunk, store)
    model, spread = policy.model, sharded.wanted()
    if spread:
        sharded.shard(model)
    chunks = [-(-len(e.branches) // chunk) for e in episodes]
    parameters = policy.trainable()
    groups = sharded.groups(parameters.values())
    optimizer = torch.optim.AdamW(groups, lr=stage.lr, weight_decay=0.0, betas=(0.9, 0.95))
    done = max(map(_step, partial.glob("step-*")), default=0)
    team.agree(done, str(partial))
    history = _resume(parameters, optimizer, partial / f"step-{done}") if done else []
    for step in track(range(done, len(batches)), f"train {stage.loss}"):
        total = 0.0
        for turn in sharded.aligned(batches[step], chunks):
            if turn.idle and not spread:
                continue
            e = episodes[turn.place]
            share = _nothing if turn.idle else _scaled(losses[turn.place], 1 / len(batches[step]))
            calls = turn.calls if spread else None
            total += backward_through_context(model, e.prefix, e.branches, share, chunk, e.latent, calls)[0]
        total = team.sum_gradients(parameters.values(), total)
        if spread:
            sharded.clip_grad_norm(groups, 1.0)
        else:
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * _rate(step, len(batches))
        optimizer.step()
        optimizer.zero_grad()
        history.append(round(total, 6))
        if (step + 1) % CHECKPOINT_EVERY == 0 and step + 1 < len(batches):
            tensors = _tensors(parameters, optimizer)
            if team.leads():
                _checkpoint(tensors, history, partial, step + 1)
    weights = sharded.gathered(dict(model.named_parameters())) if spread else None
    if team.leads():
        partial.mkdir(parents=True, exist_ok=True)
        (partial / "losses.json").write_text(json.dumps(history))
        policy.save(partial, weights)


def _nothing(logprobs: Tensor, place: slice) -> Tensor:
    """The loss of a context that is another process's."""
    return logprobs.sum() * 0


def _scaled(loss: EpisodeLoss, factor: float) -> EpisodeLoss:
    return lambda logprobs, place: loss(logprobs, place) * factor


def _rate(step: int, steps: int) -> float:
    """Linear warm-up over a tenth of the steps, then linear decay to a tenth of the rate."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 1 - 0.9 * (step - warm) / max(1, steps - warm)


def _tensors(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """All that the next step depends on, whole and in the first process's memory; every process calls."""
    tensors = {f"weight.{name}": p for name, p in parameters.items()}
    for name, p in parameters.items():
        tensors |= {f"{field}.{name}": value for field, value in optimizer.state[p].items()}
    return sharded.gathered(tensors)


def _checkpoint(tensors: dict[str, Tensor], history: list[float], partial: Path, step: int) -> None:
    final = partial / f"step-{step}"
    with building(final) as scratch:
        save_file(tensors, scratch / "state.safetensors")
        (scratch / "losses.json").write_text(json.dumps(history))
    for old in partial.glob("step-*"):
        if old != final:
            shutil.rmtree(old)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _resume(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, checkpoint: Path
) -> list[float]:
    """Take on a checkpoint's weights and optimiser state; the losses of its steps."""
    with safe_open(checkpoint / "state.safetensors", "pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118
            field, name = key.split(".", 1)
            p, value = parameters[name], tensors.get_tensor(key)
            if field == "weight":
                p.data.copy_(sharded.spread_as(value, p))
            else:
                optimizer.state[p][field] = value if field == "step" else sharded.spread_as(value, p)
    say(f"resuming training at step {_step(checkpoint)}")
    losses: list[float] = json.loads((checkpoint / "losses.json").read_text())
    return losses
