"""Our side, the settings of a comparison, and the gate that both sides must pass before any clock runs."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.floors import Rates, measure_rates
from benchmarks.measure import Unequal
from benchmarks.shapes import Shape, made_episode, made_model, made_reference, tree
from benchmarks.trl_side import TrlSide
from fspo_bench.lm.losses import dpo, log_ratio_margin
from fspo_bench.lm.shared_context import backward_through_context, score
from fspo_bench.lm.train import Encoded

BETA = 0.1
CHUNK = 2  # rows: one pair
LOSS, GRADIENT, WEIGHTS = 1e-6, 1e-5, 1e-4  # fp32; weights relative to how far three steps moved them
LOOSE = 5e-2  # log-probs, loss and gradient where weights are kept in 16 bits (after the gate in fp32)
SGD_STEPS, SGD_RATE = 3, 1e-3
COMPARED = ("log-probs", "loss", "gradient", f"weights after {SGD_STEPS} SGD steps")


@dataclass(frozen=True)
class Settings:
    """What the command line chose, for one shape."""

    shape: Shape
    pairs: tuple[int, ...]
    rounds: int
    context: int | None
    answer: int | None
    device: str
    dtype: torch.dtype

    def episode(self, pairs: int) -> Encoded:
        """One user's context and this many pairs."""
        return made_episode(self.shape, pairs, self.context, self.answer)

    def model(self) -> LlamaForCausalLM:
        """Always the same random weights."""
        return made_model(self.shape, self.device, self.dtype)

    def rates(self, episode: Encoded) -> Rates:
        """This machine's rates at the episode's shapes, now."""
        sizes = len(episode.prefix), tree(episode)
        return measure_rates(self.shape.geometry, *sizes, self.device, self.dtype)


class OurSide:
    """One episode through the shared-context step, `chunk` rows at a time."""

    def __init__(self, model: LlamaForCausalLM, episode: Encoded, reference: list[float], chunk: int) -> None:
        self.model, self.episode, self.chunk = model, episode, chunk
        self.reference = torch.tensor(reference, dtype=torch.float64, device=model.device)

    def _loss(self, logprobs: Tensor, place: slice) -> Tensor:
        ref = self.reference[place]
        h = log_ratio_margin(logprobs[0::2], logprobs[1::2], ref[0::2], ref[1::2])
        return dpo(h, BETA).sum() / (len(self.reference) // 2)

    def gradients(self) -> float:
        """Forward and backward over the episode; gradients add up in the model. Returns the loss."""
        episode = self.episode
        return backward_through_context(self.model, episode.prefix, episode.branches, self._loss, self.chunk)[
            0
        ]

    def logprobs(self) -> list[float]:
        """Summed log-probs of all branches."""
        return score(self.model, self.episode.prefix, self.episode.branches, self.chunk)


class Paired:
    """Two copies of one model, each behind its own side; `ours` and `trl` are made for given settings."""

    def __init__(self, settings: Settings, pairs: int) -> None:
        self.settings, self.episode = settings, settings.episode(pairs)
        self.our_model = settings.model()
        self.trl_model = copy.deepcopy(self.our_model)
        episode = self.episode
        self.reference = made_reference(score(self.our_model, episode.prefix, episode.branches, CHUNK))

    def ours(self, chunk: int) -> OurSide:
        """Our side on its copy."""
        return OurSide(self.our_model, self.episode, self.reference, chunk)

    def trl(self, batch: int) -> TrlSide:
        """TRL's side on its copy."""
        return TrlSide(self.trl_model, self.episode, self.reference, batch, BETA)

    def gate(self, ours: OurSide, trl: TrlSide) -> str:
        """Three SGD steps on both sides; afterwards both have their first weights again.

        In fp32 our gradient is held against TRL's in fp64: a pair's gradient is a difference, and rounding
        alone leaves either side nearly 1e-5 off (their distance is both together).

        Weights in 16 bits cannot tell a wrong sum from a rounded one: then all of it runs in fp32
        first, and the 16-bit step is held to loose limits.

        Returns:
            What was compared and how close it was.

        Raises:
            Unequal: log-probs, loss, gradient or weights differ.
        """
        if self.settings.dtype == torch.float32:
            return self._gate(ours, trl, dict(zip(COMPARED, (LOSS, LOSS, GRADIENT, WEIGHTS), strict=True)))
        exact = Paired(replace(self.settings, dtype=torch.float32), len(self.episode.branches) // 2)
        told = exact.gate(exact.ours(ours.chunk), exact.trl(trl.batch))
        del exact
        return f"fp32 {told}; then {self._gate(ours, trl, dict.fromkeys(COMPARED[:3], LOOSE))}"

    def gate_logprobs(self, ours: OurSide, trl: TrlSide) -> str:
        """The part of the gate that a forward pass needs.

        Raises:
            Unequal: log-probs differ.
        """
        limit = LOSS if self.settings.dtype == torch.float32 else LOOSE
        return _within({COMPARED[0]: _farthest(ours.logprobs(), trl.logprobs())}, {COMPARED[0]: limit})

    def _gate(self, ours: OurSide, trl: TrlSide, limits: dict[str, float]) -> str:
        start = copy.deepcopy(self.our_model.state_dict())
        try:
            return _within(self._differences(ours, trl, start), limits)
        finally:
            for model in (self.our_model, self.trl_model):
                model.load_state_dict(start)
                model.zero_grad()

    def _differences(self, ours: OurSide, trl: TrlSide, start: dict[str, Tensor]) -> dict[str, float]:
        logprobs = trl.logprobs()
        found = [_farthest(ours.logprobs(), logprobs)]
        exact = self._exact_gradient() if self.settings.dtype == torch.float32 else None
        for step in range(SGD_STEPS):
            a, b = ours.gradients(), trl.gradients()
            if step == 0:
                # The loss is a small difference of sums of hundreds of nats, which fp32 rounds at 1e-7 each:
                # it is held to 1e-6 of itself and of what it is made from.
                made_from = BETA * sum(map(abs, logprobs)) / (len(logprobs) / 2)
                found.append(abs(a - b) / (abs(b) + made_from))
                found.append(relative(_gradients(self.our_model), exact or _gradients(self.trl_model)))
                exact = None
            for model in (self.our_model, self.trl_model):
                _sgd(model)
        first = [start[name] for name, _ in self.our_model.named_parameters()]
        found.append(relative(_moved(self.our_model, first), _moved(self.trl_model, first)))
        return dict(zip(COMPARED, found, strict=True))

    def _exact_gradient(self) -> list[Tensor]:
        """TRL's gradient with all weights and sums in fp64."""
        model = copy.deepcopy(self.trl_model).double()
        TrlSide(model, self.episode, self.reference, 1, BETA).gradients()
        return _gradients(model)


def _farthest(ours: list[float], theirs: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def _within(found: dict[str, float], limits: dict[str, float]) -> str:
    for name, limit in limits.items():
        if not found[name] <= limit:
            raise Unequal(f"{name}: {found[name]:.1e} apart, relative (limit {limit:.0e})")
    return "equal: " + ", ".join(f"{name} {found[name]:.0e}" for name in limits)


def relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """L2 norm of the difference over that of `theirs`, over all tensors."""
    difference = sum(
        float((a.double() - b.double()).square().sum()) for a, b in zip(ours, theirs, strict=True)
    )
    return float((difference / sum(float(b.double().square().sum()) for b in theirs)) ** 0.5)


def _gradients(model: LlamaForCausalLM) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def _moved(model: LlamaForCausalLM, first: list[Tensor]) -> list[Tensor]:
    return [p.detach() - f for p, f in zip(model.parameters(), first, strict=True)]


@torch.no_grad()
def _sgd(model: LlamaForCausalLM) -> None:
    for p in model.parameters():
        p.sub_(p.grad, alpha=SGD_RATE)
    model.zero_grad()
