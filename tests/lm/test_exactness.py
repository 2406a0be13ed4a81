"""Models for which sharing a prefix is not exact are refused with a sentence; the others pass a check."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fspo_bench.errors import UserError
from fspo_bench.lm import exactness
from fspo_bench.lm.exactness import window
from fspo_bench.lm.generate import Asked, generate
from fspo_bench.lm.shared_context import Branch, score

SIZE: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256,
}  # fmt: skip
PREFIX = tuple(range(5, 25))
BRANCHES = [Branch((1, 2), (3, 4, 5)), Branch((1, 2), (6, 7))]


def made(model: type, config: type, **changes: Any) -> Any:
    torch.manual_seed(0)
    return model(config(**{**SIZE, **changes})).eval()


def plain_score(model: Any, branch: Branch) -> float:
    ids = torch.tensor([PREFIX + branch.given + branch.scored])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    first = len(PREFIX) + len(branch.given)
    return sum(float(logprobs[first + n - 1, t]) for n, t in enumerate(branch.scored))


@pytest.mark.parametrize(
    "model",
    [
        made(LlamaForCausalLM, LlamaConfig),
        made(MistralForCausalLM, MistralConfig, sliding_window=None),
        made(MistralForCausalLM, MistralConfig, sliding_window=64),
        made(Qwen2ForCausalLM, Qwen2Config),
        made(Qwen3ForCausalLM, Qwen3Config),
        made(Qwen2ForCausalLM, Qwen2Config, use_sliding_window=True, sliding_window=64, max_window_layers=1),
    ],
    ids=lambda m: f"{m.config.model_type}-{window(m)}",
)
def test_softmax_models_agree_with_the_naive_path(model: Any) -> None:
    assert score(model, PREFIX, BRANCHES, 2) == pytest.approx([plain_score(model, b) for b in BRANCHES], 1e-5)


def test_a_window_too_short_is_refused_before_anything_is_computed_wrongly() -> None:
    model = made(MistralForCausalLM, MistralConfig, sliding_window=24)
    with pytest.raises(
        UserError, match=r"model mistral: 25 tokens do not fit its sliding window of 24; use few"
    ):
        score(model, PREFIX, [Branch((1, 2), (3, 4, 5, 6))], 2)
    assert len(score(model, PREFIX, BRANCHES, 2)) == 2  # 20 + 2 + 2 tokens are read: they fit
    with pytest.raises(UserError, match=r"30 tokens do not fit its sliding window of 24"):
        generate(model, [Asked(PREFIX, ((1, 2),))], end=0, max_new_tokens=8)


def test_mixed_layers_are_held_to_their_window() -> None:
    model = made(
        Qwen2ForCausalLM, Qwen2Config, use_sliding_window=True, sliding_window=16, max_window_layers=1
    )
    with pytest.raises(UserError, match="sliding window of 16"):
        score(model, PREFIX, BRANCHES, 2)


def test_attention_with_a_way_of_its_own_is_found_by_the_self_check() -> None:
    model = made(  # weights large enough for the cap to bite
        Gemma2ForCausalLM, Gemma2Config, attn_logit_softcapping=0.5, sliding_window=200, initializer_range=0.5
    )
    with pytest.raises(
        UserError, match=r"model gemma2: its attention .* use a model with plain full attention"
    ):
        score(model, PREFIX, BRANCHES, 2)
    with pytest.raises(UserError, match="gemma2"):  # and again: a refusal is not remembered as a pass
        score(model, PREFIX, BRANCHES, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "layers of kind 'linear_attention'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "'dynamic' positions change"),
    ],
)
def test_other_kinds_are_refused_by_their_configuration(changes: dict[str, Any], said: str) -> None:
    model = made(LlamaForCausalLM, LlamaConfig)
    for key, value in changes.items():
        setattr(model.config, key, value)
    with pytest.raises(UserError, match=said):
        score(model, PREFIX, BRANCHES, 2)


def test_the_check_runs_once_for_a_loaded_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = exactness._difference
    monkeypatch.setattr(exactness, "_difference", lambda *args: calls.append(1) or original(*args))
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for _ in range(3):
        score(model, PREFIX, BRANCHES, 2)
    assert calls == [1]
    again = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    score(again, PREFIX, BRANCHES, 2)
    assert calls == [1, 1]
