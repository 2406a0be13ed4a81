"""Base: the untouched model reads the question alone. Every win rate is against its answers.

fspo-bench run --method base --task roleplay
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen

SEES = ()


@dataclass(frozen=True)
class Config:
    """No settings."""


def context(seen: Seen, config: Config) -> Context:
    """Nothing before the question."""
    return Context()
