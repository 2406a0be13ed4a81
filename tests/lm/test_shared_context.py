"""The shared-context step equals the naive one: loss, gradients, and weights after three steps."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from fspo_bench.lm.shared_context import Branch, backward_through_context, causal_lm, score

PREFIX = 33


def _ids(rng: random.Random, n: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 200) for _ in range(n))


def _tree(questions: int, seed: int = 0) -> tuple[tuple[int, ...], list[Branch]]:
    """A prefix and, for each question, a chosen and a rejected answer, all of ragged lengths."""
    rng = random.Random(seed)
    branches = []
    for _ in range(questions):
        given = _ids(rng, rng.randint(1, 6))
        branches += [Branch(given, _ids(rng, rng.randint(1, 9))) for _ in range(2)]
    return _ids(rng, PREFIX), branches


def _naive_logprobs(model: torch.nn.Module, prefix: tuple[int, ...], branches: list[Branch]) -> Tensor:
    """Every row in full through the unchanged model."""
    sums = []
    for branch in branches:
        ids = prefix + branch.given + branch.scored
        logprobs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).double()
        first = len(prefix) + len(branch.given)
        sums.append(sum(logprobs[first + n - 1, token] for n, token in enumerate(branch.scored)))
    return torch.stack(sums)


def _squared_margin(logprobs: Tensor, _: slice) -> Tensor:
    return ((logprobs[0::2] - logprobs[1::2] - 5) ** 2).sum()


def _load(folder: Path, lora: bool) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if not lora:
        return model
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    return wrapped.eval()


def _gradients(model: torch.nn.Module) -> Tensor:
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return torch.cat(grads)


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("chunk", [2, 4, 10])
def test_loss_and_gradients_equal_the_naive_step(tiny_model: Path, lora: bool, chunk: int) -> None:
    model = _load(tiny_model, lora)
    prefix, branches = _tree(5)
    loss, logprobs = backward_through_context(model, prefix, branches, _squared_margin, chunk)
    shared = _gradients(model)
    expected = _naive_logprobs(model, prefix, branches)
    naive_loss = _squared_margin(expected, slice(None))
    naive_loss.backward()
    assert loss == pytest.approx(float(naive_loss.detach()), rel=1e-6)
    assert torch.allclose(logprobs, expected.detach(), atol=1e-4)
    assert _relative(shared, _gradients(model)) < 1e-5


def test_weights_after_three_sgd_steps_equal_the_naive_ones(tiny_model: Path) -> None:
    def train(step: Callable[[torch.nn.Module, tuple[int, ...], list[Branch]], None]) -> Tensor:
        model = _load(tiny_model, lora=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for seed in range(3):
            step(model, *_tree(3, seed))
            optimizer.step()
            optimizer.zero_grad()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    def shared(model: torch.nn.Module, prefix: tuple[int, ...], branches: list[Branch]) -> None:
        backward_through_context(model, prefix, branches, _squared_margin, chunk=2)

    def naive(model: torch.nn.Module, prefix: tuple[int, ...], branches: list[Branch]) -> None:
        _squared_margin(_naive_logprobs(model, prefix, branches), slice(None)).backward()

    start = torch.cat([p.detach().flatten() for p in _load(tiny_model, False).parameters()])
    after_shared, after_naive = train(shared), train(naive)
    assert _relative(after_shared - start, after_naive - start) < 1e-4
    assert _relative(after_shared, start) > 1e-6, "training moved nothing"


def test_the_plain_path_equals_the_flash_path(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on other devices computes the same sums and gradients."""
    import fspo_bench.lm.shared_context as module

    model = _load(tiny_model, lora=False)
    prefix, branches = _tree(4)
    loss, _ = backward_through_context(model, prefix, branches, _squared_margin, 8)
    flash = _gradients(model)

    monkeypatch.setattr(module, "_merged_flash", module._merged_plain)
    plain_loss, _ = backward_through_context(model, prefix, branches, _squared_margin, 8)
    assert plain_loss == pytest.approx(loss, rel=1e-6)
    assert _relative(_gradients(model), flash) < 1e-5


def test_score_needs_no_gradient_and_equals_naive(tiny_model: Path) -> None:
    model = _load(tiny_model, lora=True)
    prefix, branches = _tree(3)
    with torch.no_grad():
        expected = _naive_logprobs(model, prefix, branches)
    assert score(model, prefix, branches, chunk=2) == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_prefix_runs_once_and_every_branch_token_once(tiny_model: Path) -> None:
    """Counts, not seconds: tokens through the first layer."""
    model = _load(tiny_model, lora=False)
    prefix, branches = _tree(5)
    score(model, prefix, branches, chunk=10)  # past the first use, which checks the model
    seen = []
    first = causal_lm(model).get_decoder().layers[0]
    handle = first.register_forward_hook(
        lambda _m, inputs, _o: seen.append(inputs[0].shape[0] * inputs[0].shape[1])
    )
    backward_through_context(model, prefix, branches, _squared_margin, chunk=10)
    handle.remove()
    questions = sum(len(b.given) for b in branches[0::2])
    assert sum(seen) == len(prefix) + questions + sum(len(b.scored) - 1 for b in branches)


def test_the_models_own_attention_is_left_as_it_was(tiny_model: Path) -> None:
    model = _load(tiny_model, lora=False)
    before = model.config._attn_implementation
    prefix, branches = _tree(1)
    with pytest.raises(ZeroDivisionError):
        backward_through_context(model, prefix, branches, lambda *_: 1 / 0, chunk=2)  # type: ignore[arg-type]
    assert model.config._attn_implementation == before


def test_half_precision_runs_and_stays_near(tiny_model: Path) -> None:
    model = _load(tiny_model, lora=False)
    prefix, branches = _tree(4)
    exact, _ = backward_through_context(model, prefix, branches, _squared_margin, 8)
    gradient = _gradients(model)
    half, _ = backward_through_context(model.bfloat16(), prefix, branches, _squared_margin, 8)
    assert half == pytest.approx(exact, rel=5e-2)
    assert _relative(_gradients(model).float(), gradient) < 0.1
