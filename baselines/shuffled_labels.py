"""Shuffled labels: a method's policy reads the user's own shots with the labels of half of them turned.

What is left of a gain then comes from the shots' questions and texts, not from what the user prefers.

    fspo-bench run --method shuffled_labels --task roleplay
    fspo-bench run --method shuffled_labels --task roleplay --set of=pref_ft

Control: training is that of the method that `of` names; a fair coin turns each of the test user's shots.
"""

from dataclasses import dataclass

CONTROL = "shuffled_labels"


@dataclass(frozen=True)
class Config:
    """Which method is spoilt."""

    of: str = "fspo"
