"""Concise: the untouched model, told to answer briefly; what brevity alone is worth to the judge.

    fspo-bench run --method concise --task roleplay

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
    return Context(system="Answer as briefly as you can, in one or two short sentences.")
