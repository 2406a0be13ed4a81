"""Verbose: the untouched model, told to answer at length; what length alone is worth to the judge.

    fspo-bench run --method verbose --task roleplay

Control: the same words for every user.
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen

SEES = ()


@dataclass(frozen=True)
class Config:
    """No settings."""


def context(seen: Seen, config: Config) -> Context:
    """One wish about length."""
    return Context(system="Answer at length, in full detail, with examples.")
