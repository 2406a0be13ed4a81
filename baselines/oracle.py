"""Oracle: the untouched model reads the user's true description (persona steering; FSPO's upper bound).

fspo-bench run --method oracle --task roleplay
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen, description_context

SEES = ("description",)


@dataclass(frozen=True)
class Config:
    """No settings."""


def context(seen: Seen, config: Config) -> Context:
    """The description that no method may read."""
    return description_context(seen.description)
