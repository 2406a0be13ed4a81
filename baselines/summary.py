"""Summary: the untouched model describes the user from the shots, then answers (RAT without training).

What `fspo_rat` gains over this row, it gains by training.

    fspo-bench run --method summary --task roleplay
"""

from dataclasses import dataclass

from fspo_bench.describe import DescribeThenAnswer, shots_and_description
from fspo_bench.lab import Lab

SEES = ("shots",)


@dataclass(frozen=True)
class Config:
    """No settings."""


def fit(lab: Lab, config: Config) -> DescribeThenAnswer:
    """Nothing is trained."""
    return DescribeThenAnswer(lab, lab.start, shots_and_description, lab.start)
