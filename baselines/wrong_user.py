"""Wrong user: a method's policy reads another test user's shots in place of the user's own.

A gain over `base` that survives this is not personal.

    fspo-bench run --method wrong_user --task roleplay
    fspo-bench run --method wrong_user --task roleplay --set of=pref_ft

Control: training is that of the method that `of` names; only the test user's shots are exchanged.
"""

from dataclasses import dataclass

CONTROL = "wrong_user"


@dataclass(frozen=True)
class Config:
    """Which method is spoilt."""

    of: str = "fspo"
