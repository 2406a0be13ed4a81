"""Best of K: of the shared pool of candidates, the one that the judge itself finds this user wants most.

No reward method can do better on this pool, so it is the ceiling of `gpo`, `vpl` and `lore`, and it is
optimistic: it knows the judge's errors, too. It needs a task with the offline judge.

    fspo-bench run --method best_of_k --task roleplay --set candidates=16

K is the preset's `candidates`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from fspo_bench.lab import Lab, Personal
from fspo_bench.rewards import BestOfK, Judged

SEES = ("judge",)


@dataclass(frozen=True)
class Config:
    """No settings beside the preset's `candidates`."""


def fit(lab: Lab, config: Config) -> Personal:
    """Nothing is trained: the reward is what the judge finds an answer is worth to the user."""

    def reward(items: Sequence[Judged]) -> list[float]:
        worths: list[float] = []
        for (seen, prompt), group in groupby(items, key=lambda item: item[:2]):
            worths += lab.worth(seen, prompt, [text for _, _, text in group])
        return worths

    return BestOfK(lab, reward)
