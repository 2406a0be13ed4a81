"""Soft tokens: exact beside plain tokens, trained with the policy, saved and put back with it."""

from pathlib import Path

import pytest
import torch

from fspo_bench.lm.generate import Asked, generate
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.shared_context import Branch, backward_through_context, causal_lm, score
from fspo_bench.lm.soft_prefix import embedded
from fspo_bench.lm.train import Encoded, Stage, train_stage
from fspo_bench.store import Store

PREFIX, LATENT = (5, 6, 7), (1.0, -0.5)
BRANCHES = [Branch((8, 9), (10, 11, 12)), Branch((8, 9), (13, 14))]


def _policy(tiny_model: Path, lora_rank: int = 4) -> Policy:
    return Policy(tiny_model, "f", lora_rank, "float32", 0, soft=(2, 3))


def _plain_logits(policy: Policy, ids: tuple[int, ...]) -> torch.Tensor:
    lm = causal_lm(policy.model)
    return lm(inputs_embeds=embedded(lm, ids, LATENT)).logits[0]


def test_scores_equal_a_plain_pass_over_soft_and_hard_tokens(tiny_model: Path) -> None:
    policy = _policy(tiny_model)
    for branch, scored in zip(BRANCHES, score(policy.model, PREFIX, BRANCHES, 2, LATENT), strict=True):
        ids = PREFIX + branch.given + branch.scored
        logprobs = _plain_logits(policy, ids).log_softmax(-1)
        first = 3 + len(PREFIX) + len(branch.given) - 1  # three soft tokens stand before
        plain = sum(float(logprobs[first + n, t].detach()) for n, t in enumerate(branch.scored))
        assert scored == pytest.approx(plain, abs=1e-4)


def test_greedy_tokens_equal_plain_decoding(tiny_model: Path) -> None:
    policy, question = _policy(tiny_model), (8, 9)
    (written,) = generate(policy.model, [Asked(PREFIX, (question,), LATENT)], 0, 6)
    ids = PREFIX + question
    for token in written:
        assert int(_plain_logits(policy, ids)[-1].argmax()) == token
        ids += (token,)


def test_gradients_reach_the_soft_tokens(tiny_model: Path) -> None:
    policy = _policy(tiny_model)
    names = [n for n in policy.trainable() if "soft_prefix" in n]
    assert len(names) == 2
    backward_through_context(policy.model, PREFIX, BRANCHES, lambda lp, _: -lp.sum(), 2, LATENT)
    assert all(policy.trainable()[n].grad.abs().max() > 0 for n in names)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_the_latent_decides_after_training_and_states_are_put_back(
    tiny_model: Path, tmp_path: Path, lora_rank: int
) -> None:
    """Nothing but the latent tells the two kinds of user apart."""
    policy, store = _policy(tiny_model, lora_rank), Store(tmp_path)
    good, bad = Branch((7, 8), (50, 51)), Branch((7, 8), (60, 61))
    kinds = {(1.0, 0.0): (good, bad), (0.0, 1.0): (bad, good)}
    untouched = score(policy.model, PREFIX, [good, bad], 2, (1.0, 0.0))
    lessons = [Encoded(PREFIX, pair, latent=latent) for latent, pair in kinds.items()] * 20
    train_stage(policy, Stage("dpo", 40, 2e-2, 0.5, contexts_per_step=2), lessons, 2, store)
    state = policy.state
    trained = {}
    for latent, pair in kinds.items():
        chosen, rejected = trained[latent] = score(policy.model, PREFIX, pair, 2, latent)
        assert chosen > rejected
    policy.state = ""
    assert score(policy.model, PREFIX, [good, bad], 2, (1.0, 0.0)) == untouched
    again = _policy(tiny_model, lora_rank)
    again.restore(state, store.folder_path(state))
    for latent, pair in kinds.items():
        assert score(again.model, PREFIX, pair, 2, latent) == pytest.approx(trained[latent], abs=1e-4)
    assert again.trained_parameters() > 2 * 3 * 32
