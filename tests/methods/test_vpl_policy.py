"""VPL policy: pairs are labelled by the reward, and the latent alone tells the policy who asks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fspo_bench.data.tasks import Preference
from fspo_bench.lab import Lesson, TrainingEpisode
from fspo_bench.lm.prompts import Seen
from fspo_bench.lm.train import Stage
from fspo_bench.packs import load_builtin_method
from fspo_bench.rewards import Judged
from tests.conftest import SMALL

policy = load_builtin_method("vpl_policy")


def seen(taste: str) -> Seen:
    return Seen(shots=(Preference("s", "Shot?", f"{taste} shot", "other shot"),))


def by_length(items: Sequence[Judged]) -> list[float]:
    """One kind of user wants long answers, the other short ones, within [0, 1]."""
    sign = {"long": 1, "short": -1}
    return [0.5 + sign[s.shots[0].chosen.split()[0]] * len(text) / 100 for s, _, text in items]


def test_pairs_are_labelled_anew_whoever_labelled_them_first() -> None:
    queries = (
        Preference("a", "A?", "longer answer", "short"),
        Preference("b", "B?", "short", "longer answer"),
    )
    pairs = policy.relabelled(by_length, TrainingEpisode("u", seen("long"), queries))
    assert [(p.prompt, p.chosen, p.rejected) for p in pairs] == [
        ("A?", "longer answer", "short"), ("B?", "longer answer", "short")
    ]  # fmt: skip
    pairs = policy.relabelled(by_length, TrainingEpisode("u", seen("short"), queries))
    assert [p.chosen for p in pairs] == ["short", "short"]


@dataclass
class _Lab:
    preset: Any = SMALL
    policy: Any = field(default_factory=lambda: SimpleNamespace(soft=None))
    parameters: int = 0
    start: str = "start"
    trained: list[tuple[Stage, Sequence[Lesson], str | None]] = field(default_factory=list)

    def episodes(self, n: int, seed: int) -> list[TrainingEpisode]:
        query = Preference("q", "Q?", "longer answer", "short")
        return [TrainingEpisode("u", seen(("long", "short")[k % 2]), (query,)) for k in range(n)]

    def train(self, stage: Stage, lessons: Sequence[Lesson], start: str | None = None) -> str:
        self.parameters = max(self.parameters, 7)
        self.trained.append((stage, lessons, start))
        return f"after {stage.loss}"


class _Vpl:
    def latent(self, seens: Sequence[Seen]) -> torch.Tensor:
        return torch.tensor([[float(s.shots[0].chosen.startswith("long")), 0.25] for s in seens])

    reward = staticmethod(by_length)


def test_the_latent_stands_before_the_question_and_no_shot_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.vpl, "trained", lambda lab, config: _Vpl())
    lab = _Lab(parameters=100)
    fitted = policy.fit(lab, policy.Config(latent=2, tokens=3))
    assert lab.policy.soft == (2, 3)
    (sft, first, start), (dpo, second, reference) = lab.trained
    assert (sft.loss, dpo.loss, start, reference) == ("sft", "dpo", "start", "after sft")
    assert (fitted.state, fitted.reference) == ("after dpo", "after sft")
    long, short = second[0], second[1]
    assert (long.context.latent, short.context.latent) == ((1.0, 0.25), (0.0, 0.25))
    assert long.answers == (("Q?", "longer answer"), ("Q?", "short"))
    assert short.answers == long.answers[::-1]
    assert first[0].answers == long.answers[:1]
    assert "shot" not in str(long.context)
    assert lab.parameters == 107, "the reward's and the policy's"
    assert fitted.context(seen("long")) == long.context


@pytest.mark.parametrize("bad", [{"tokens": 0}, {"latent": 0}, {"kl_weight": -1.0}])
def test_bad_settings_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
        policy.Config(**bad)


def test_runs_know_the_bytes_of_what_it_builds_on() -> None:
    assert policy.BUILDS_ON == ("vpl",)
