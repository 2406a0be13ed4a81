"""Few-shot prompting: the untouched model reads the same shots as FSPO (FSPO's table 1).

fspo-bench run --method few_shot --task roleplay
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen, shots_context

SEES = ("shots",)


@dataclass(frozen=True)
class Config:
    """No settings."""


def context(seen: Seen, config: Config) -> Context:
    """The user's preferences."""
    return shots_context(seen)
