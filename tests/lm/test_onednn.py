from pathlib import Path

import pytest
import torch
from torch.nn import Linear

from fspo_bench.lm.onednn import onednn_linears
from tests.lm.test_shared_context import _load


@pytest.mark.parametrize("bias", [True, False])
def test_same_product_and_gradients_as_torch(bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = Linear(48, 40, bias=bias), torch.randn(2, 7, 48, requires_grad=True)
    weights = [x, *layer.parameters()]
    expected = layer(x)
    seed = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, weights, seed)
    with onednn_linears(layer):
        out = layer(x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(torch.autograd.grad(out, weights, seed), wanted)


def test_frozen_weights_get_no_gradient_and_cost_none() -> None:
    layer, x = Linear(8, 4).requires_grad_(False), torch.randn(3, 8, requires_grad=True)
    with onednn_linears(layer):
        layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad is not None


def test_decoding_uses_its_own_copy_and_lets_it_go() -> None:
    layer, x = Linear(32, 24), torch.randn(8, 32)
    with torch.no_grad():
        with onednn_linears(layer, decoding=True):
            torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
        layer.weight.zero_()
        assert torch.equal(layer(x), layer.bias.expand(8, -1))


def test_layers_inside_lora_are_reached_and_come_back(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fspo_bench.lm.onednn as module

    calls: list[int] = []
    real = module._times
    monkeypatch.setattr(module, "_times", lambda x, w, b: calls.append(1) or real(x, w, b))
    model, ids = _load(tiny_model, lora=True), torch.tensor([[3, 4, 5]])
    with torch.no_grad(), onednn_linears(model, decoding=True):
        model(ids)
    inside = len(calls)
    assert inside == sum(type(m) is Linear for m in model.modules())
    with torch.no_grad():
        model(ids)
    assert len(calls) == inside


def test_other_dtypes_and_nested_use_keep_their_way() -> None:
    half, single = Linear(8, 8, dtype=torch.bfloat16), Linear(8, 8)
    with onednn_linears(half):
        assert "forward" not in vars(half)
    with onednn_linears(single):
        outer = single.forward
        with onednn_linears(single, decoding=True):
            assert single.forward is outer
        assert single.forward is outer
    assert "forward" not in vars(single)
