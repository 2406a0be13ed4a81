"""The training loop: planted preferences are learned, a killed stage resumes to the same weights."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fspo_bench.lm.train as train_module
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.shared_context import Branch, score
from fspo_bench.lm.train import Encoded, Stage, reference_logprobs, train_stage
from fspo_bench.store import Store


def _episodes(n: int, queries: int = 2) -> list[Encoded]:
    rng = random.Random(0)

    def ids(k: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, 200) for _ in range(k))

    episodes = []
    for _ in range(n):
        branches = []
        for _ in range(queries):
            question = ids(3)
            branches += [Branch(question, (50, *ids(3))), Branch(question, (60, *ids(3)))]
        episodes.append(Encoded(ids(12), tuple(branches)))
    return episodes


def _weights(policy: Policy) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in policy.trainable().values()])


def _policy(tiny_model: Path, lora_rank: int = 4) -> Policy:
    return Policy.open(str(tiny_model), lora_rank, "float32", seed=0)


@pytest.mark.parametrize(
    "stage", [Stage("sft", 6, 1e-2), Stage("ipo", 6, 1e-2, 0.1), Stage("dpo", 6, 1e-2, 0.1)]
)
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_killed_stage_resumes_to_the_same_weights(
    tiny_model: Path, stage: Stage, lora_rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = _episodes(6)
    monkeypatch.setattr(train_module, "CHECKPOINT_EVERY", 2)
    whole = _policy(tiny_model, lora_rank)
    train_stage(whole, stage, episodes, chunk=4, store=Store(tmp_path / "whole"))

    store, killed = Store(tmp_path / "killed"), _policy(tiny_model, lora_rank)
    steps = _count_calls(monkeypatch, "backward_through_context", fail_at=6)
    with pytest.raises(KeyboardInterrupt):
        train_stage(killed, stage, episodes, chunk=4, store=store)
    assert steps() == 5
    resumed = _policy(tiny_model, lora_rank)
    train_stage(resumed, stage, episodes, chunk=4, store=store)
    assert steps() == 5 + 2, "the two steps after the last checkpoint, and no more"
    assert torch.equal(_weights(resumed), _weights(whole))
    assert resumed.state == whole.state


def _count_calls(monkeypatch: pytest.MonkeyPatch, name: str, fail_at: int | None = None) -> Callable[[], int]:
    """Count finished calls of a function of the training module; the `fail_at`-th call is a Ctrl-C."""
    finished, begun = [0], [0]
    original = getattr(train_module, name)

    def counted(*args: object, **kwargs: object) -> object:
        begun[0] += 1
        if begun[0] == fail_at:
            raise KeyboardInterrupt
        result = original(*args, **kwargs)
        finished[0] += 1
        return result

    monkeypatch.setattr(train_module, name, counted)
    return lambda: finished[0]


def test_a_finished_stage_is_loaded_not_trained(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stage, episodes = Store(tmp_path), Stage("ipo", 3, 1e-2, 0.1), _episodes(3)
    first = _policy(tiny_model)
    train_stage(first, stage, episodes, 4, store)
    steps = _count_calls(monkeypatch, "backward_through_context")
    second = _policy(tiny_model)
    train_stage(second, stage, episodes, 4, store)
    assert steps() == 0
    assert torch.equal(_weights(first), _weights(second))


def test_ipo_reaches_its_target_margin_on_a_planted_pair(tiny_model: Path, tmp_path: Path) -> None:
    episode, beta = _episodes(1, queries=1)[0], 0.25
    policy = _policy(tiny_model)
    before = score(policy.model, episode.prefix, episode.branches, 4)
    stage = Stage("ipo", 120, 2e-2, beta)
    train_stage(policy, stage, [episode] * 120, 4, Store(tmp_path))
    after = score(policy.model, episode.prefix, episode.branches, 4)
    margin = (after[0] - before[0]) - (after[1] - before[1])
    assert margin == pytest.approx(1 / (2 * beta), rel=0.1)


def test_fspo_learns_who_is_asking(tiny_model: Path, tmp_path: Path) -> None:
    """Two kinds of user, told apart only by their shots, want opposite answers."""
    rng = random.Random(0)

    def episode(kind: int) -> Encoded:
        prefix = tuple([100 + kind] * 6 + [rng.randrange(3, 90) for _ in range(4)])
        good, bad = (Branch((7, 8), (50, 51)), Branch((7, 8), (60, 61)))
        return Encoded(prefix, (good, bad) if kind else (bad, good))

    policy = _policy(tiny_model, lora_rank=0)
    episodes = [episode(n % 2) for n in range(120)]
    train_stage(policy, Stage("dpo", 120, 5e-3, 0.5, contexts_per_step=2), episodes, 4, Store(tmp_path))
    for kind in (0, 1):
        own = episode(kind)
        chosen, rejected = score(policy.model, own.prefix, own.branches, 4)
        wrong_user_chosen, wrong_user_rejected = score(
            policy.model, episode(1 - kind).prefix, own.branches, 4
        )
        assert chosen > rejected
        assert wrong_user_chosen < wrong_user_rejected, "another user's shots must turn the preference"


def test_reference_logprobs_are_stored_by_content_and_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (episode,) = Store(tmp_path), _episodes(1)
    policy = _policy(tiny_model)
    calls = _count_calls(monkeypatch, "score")
    first = reference_logprobs(policy, episode, 4, store)
    assert reference_logprobs(policy, episode, 4, store) == first
    assert calls() == 1
    train_stage(policy, Stage("sft", 1, 1e-1), [episode], 4, store)
    assert reference_logprobs(policy, episode, 4, store) != first, "new weights, new key"
    assert calls() == 2


def test_a_saved_adapter_loads_with_peft(tiny_model: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    store, policy = Store(tmp_path), _policy(tiny_model)
    episodes = _episodes(2)
    train_stage(policy, Stage("sft", 2, 1e-2), episodes, 4, store)
    loaded = AutoPeftModelForCausalLM.from_pretrained(store.folder_path(policy.state))
    expected = score(policy.model, episodes[0].prefix, episodes[0].branches, 4)
    assert score(loaded, episodes[0].prefix, episodes[0].branches, 4) == pytest.approx(expected, abs=1e-4)


def test_a_model_in_several_files_goes_back_to_its_untouched_weights(
    tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(tmp_path, max_shard_size="30KB")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    policy = _policy(tmp_path, lora_rank=0)
    before = _weights(policy)
    train_stage(policy, Stage("sft", 2, 1e-2), _episodes(2), 4, Store(tmp_path / "store"))
    assert not torch.equal(_weights(policy), before)
    policy.state = ""
    assert torch.equal(_weights(policy), before)
