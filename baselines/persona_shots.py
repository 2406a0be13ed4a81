"""Persona and shots: the untouched model reads the user's true description and the shots.

What is left for a better description: `summary` and `fspo_rat` read one of their own in its place.

    fspo-bench run --method persona_shots --task roleplay
"""

from dataclasses import dataclass

from fspo_bench.describe import shots_and_description
from fspo_bench.lm.prompts import Context, Seen

SEES = ("shots", "description")


@dataclass(frozen=True)
class Config:
    """No settings."""


def context(seen: Seen, config: Config) -> Context:
    """The user's preferences, and the description that no method may read."""
    return shots_and_description(seen, seen.description)
