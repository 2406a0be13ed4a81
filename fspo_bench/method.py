"""What a method file gives, read into one object.

A method composes three things: the context it shows the policy, the stages it trains, and the way
it answers (greedy generation behind the context). Its file defines

    SEES       which parts of a user it may see: ("shots",), ("description",) or ()
    Config     a frozen dataclass of its own settings (`--set key=value`)
    context    context(seen, config) -> Context, the chat before the question
    stages     stages(config, preset) -> list[Stage], absent when nothing is trained
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from fspo_bench.data.tasks import Preference, User
from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.lm.prompts import Context, Seen
from fspo_bench.packs import Found, load_method
from fspo_bench.presets import Preset
from fspo_bench.settings import names_of, replaced
from fspo_bench.store import digest, file_sha256

PARTS = ("shots", "description")


@dataclass(frozen=True)
class Method:
    """A loaded method with its settings resolved."""

    name: str
    kind: str
    module: ModuleType
    config: Any
    hash: str
    show_rejected: bool

    @property
    def personal(self) -> bool:
        """Whether what it sees differs between users."""
        return bool(self.module.SEES)

    @property
    def sees_description(self) -> bool:
        return "description" in self.module.SEES

    def context(self, user: User, shots: tuple[Preference, ...]) -> Context:
        """The chat before the question, from what the method declared that it sees and nothing else."""
        seen = Seen(
            shots=shots if "shots" in self.module.SEES else (),
            description=user.description if self.sees_description else "",
            show_rejected=self.show_rejected,
        )
        context = self.module.context(seen, self.config)
        if not isinstance(context, Context):
            raise UserError(
                f"{self.module.__file__}: context() returned {type(context).__name__}, "
                "needs a fspo_bench.lm.prompts.Context"
            )
        return context

    def stages(self, preset: Preset) -> list[Any]:
        return list(self.module.stages(self.config, preset)) if hasattr(self.module, "stages") else []


def open_methods(
    found: Sequence[Found], preset: Preset, settings: Mapping[str, Any], elsewhere: Collection[str] = ()
) -> list[tuple[Method, Preset]]:
    """Load methods; each setting goes to every Config that has it, or else to the preset.

    Args:
        found: where the methods are.
        preset: the budget.
        settings: what `--set` gave.
        elsewhere: settings that others take (a task's options).

    Raises:
        UserError: a key that nothing knows, or a value of the wrong type.
    """
    modules = [load_method(f) for f in found]
    of_methods = {name for module in modules for name in names_of(module.Config)}
    known = of_methods | (names_of(preset) - {"name"}) | set(elsewhere)
    for key in settings:
        if key not in known:
            names = ", ".join(f"'{f.name}'" for f in found)
            raise UserError(f"--set {key}: method {names} has no such setting{did_you_mean(key, known)}")
    return [_open(f, module, preset, settings) for f, module in zip(found, modules, strict=True)]


def _open(
    found: Found, module: ModuleType, preset: Preset, settings: Mapping[str, Any]
) -> tuple[Method, Preset]:
    if unknown := set(module.SEES) - set(PARTS):
        raise UserError(f"{found.path}: SEES holds '{unknown.pop()}', known: {', '.join(PARTS)}")
    config = replaced(module.Config(), settings)
    own = names_of(config) | {"name"}
    preset = replaced(preset, {k: v for k, v in settings.items() if k not in own})
    fingerprint = digest([file_sha256(found.path), dataclasses.asdict(config)])
    return Method(found.name, found.kind, module, config, fingerprint, preset.show_rejected), preset
