"""The exceptions a user is meant to see: one sentence each, no traceback."""

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: one sentence naming what, where and what to do (exit code 2)."""


class Stopped(Exception):
    """Nothing is wrong with what the user gave, but it ends here; the same command goes on (exit code 1)."""


class Unavailable(Stopped):
    """A server does not answer, however often it is asked."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'beta'?` when something near exists, else the whole choice."""
    import difflib

    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f", did you mean '{near[0]}'?"
    return f" (known: {', '.join(known)})" if known else ""
