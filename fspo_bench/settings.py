"""Settings given as `--set key=value`, checked against a dataclass's types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from fspo_bench.errors import UserError

T = TypeVar("T")


def names_of(kind: Any) -> set[str]:
    """The settings that a dataclass (or an instance) has."""
    return {field.name for field in dataclasses.fields(kind)}


def replaced(value: T, changes: Mapping[str, Any]) -> T:
    """The dataclass instance with those of its fields changed that `changes` names.

    Raises:
        UserError: a value of the wrong type, or one that the dataclass refuses.
    """
    hints = get_type_hints(type(value))
    checked = {}
    for key in names_of(value) & set(changes):
        given, wanted = changes[key], hints[key]
        if wanted is float and type(given) is int:
            given = float(given)
        if wanted in (int, float, str, bool) and type(given) is not wanted:
            raise UserError(f"--set {key}: '{given}' is not {_a(wanted)}")
        checked[key] = given
    try:
        return dataclasses.replace(value, **checked)  # type: ignore[type-var]
    except ValueError as error:
        raise UserError(f"--set: {error}") from None


def labelled(name: str, changed: Mapping[str, Any]) -> str:
    """A name with the settings that are not its defaults: `fspo (loss=dpo)`."""
    given = ", ".join(f"{k}={v}" for k, v in changed.items())
    return f"{name} ({given})" if given else name


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]
