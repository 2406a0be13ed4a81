"""What a method file gives, read into one object.

A method's file defines

    SEES       which parts of a user it may see: "shots", "description"; "train_descriptions" of the
               users that it trains on; "judge" for the one baseline that asks it
    Config     a frozen dataclass of its own settings (`--set key=value`)

and then either what the policy reads and how it is trained, where the answer is the policy's own:

    context    context(seen, config) -> Context, the chat before the question
    stages     stages(config, preset) -> list[Stage], absent when nothing is trained

or the whole of it:

    fit        fit(lab, config) -> Personal, which answers and ranks (see `fspo_bench.lab`)

A file that loads a built-in method (`packs.load_builtin_method`) names it in BUILDS_ON.
A control's file has CONTROL ("wrong_user" or "shuffled_labels") in place of these, and a Config with
`of`, the method whose shots it spoils when that method is tested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fspo_bench.data.tasks import Preference, User
from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.lm.prompts import Context, Seen
from fspo_bench.packs import Found, builtin_method, load_method, resolve
from fspo_bench.presets import Preset
from fspo_bench.settings import labelled, names_of, replaced
from fspo_bench.store import digest, file_sha256

if TYPE_CHECKING:
    from fspo_bench.lab import Lab, Personal

PARTS = ("shots", "description", "train_descriptions", "judge")
OF_A_USER = {"shots", "description", "judge"}
CONTROLS = ("wrong_user", "shuffled_labels")


@dataclass(frozen=True)
class Method:
    """A loaded method with its settings resolved."""

    name: str
    kind: str
    module: ModuleType
    config: Any
    hash: str
    show_rejected: bool
    control: str = ""
    """How a test user's shots are spoilt before the method sees them."""
    trained_as: str = ""
    """For a control the hash of the method whose training is its own; empty otherwise."""

    @property
    def personal(self) -> bool:
        """Whether what it sees differs between users."""
        return bool(OF_A_USER & set(self.module.SEES))

    @property
    def changed(self) -> dict[str, Any]:
        """Those of its settings that are not its defaults."""
        defaults = dataclasses.asdict(self.module.Config())
        return {k: v for k, v in dataclasses.asdict(self.config).items() if v != defaults[k]}

    @property
    def label(self) -> str:
        """Its name with what is changed."""
        return labelled(self.name, self.changed)

    @property
    def sees_description(self) -> bool:
        return "description" in self.module.SEES

    @property
    def sees_judge(self) -> bool:
        return "judge" in self.module.SEES

    def seen(self, user: User, shots: tuple[Preference, ...]) -> Seen:
        """What the method declared that it sees of a user, and nothing else."""
        return Seen(
            shots=shots if "shots" in self.module.SEES else (),
            description=user.description if self.sees_description else "",
            show_rejected=self.show_rejected,
            user_id=user.user_id if self.sees_judge else "",
        )

    def context(self, seen: Seen) -> Context:
        """The chat before the question."""
        context = self.module.context(seen, self.config)
        if not isinstance(context, Context):
            raise UserError(
                f"{self.module.__file__}: context() returned {type(context).__name__}, "
                "needs a fspo_bench.lm.prompts.Context"
            )
        return context

    def stages(self, preset: Preset) -> list[Any]:
        """What is trained behind `context`."""
        return list(self.module.stages(self.config, preset)) if hasattr(self.module, "stages") else []

    def fit(self, lab: Lab) -> Personal:
        """Train what the method trains."""
        if hasattr(self.module, "fit"):
            fitted: Personal = self.module.fit(lab, self.config)
            return fitted
        return lab.prompted(self.context, self.stages(lab.preset))


def open_methods(
    found: Sequence[Found],
    preset: Preset,
    settings: Mapping[str, Any],
    elsewhere: Collection[str] = (),
    among: Sequence[Found] = (),
) -> list[tuple[Method, Preset]]:
    """Load methods; each setting goes to every Config that has it, or else to the preset.

    Args:
        found: where the methods are.
        preset: the budget.
        settings: what `--set` gave.
        elsewhere: settings that others take (a task's options).
        among: where a control finds the method that it is a control of.

    Raises:
        UserError: a key that nothing knows, or a value of the wrong type.
    """
    modules = [load_method(f) for f in found]
    parents = {
        f.path: _parent(f, module, settings, among)
        for f, module in zip(found, modules, strict=True)
        if hasattr(module, "CONTROL")
    }
    of_methods = {name for f in found for name in own_settings(f, settings, among)}
    known = of_methods | (names_of(preset) - {"name", "source"}) | set(elsewhere)
    for key in settings:
        if key not in known:
            names = ", ".join(f"'{f.name}'" for f in found)
            raise UserError(f"--set {key}: method {names} has no such setting{did_you_mean(key, known)}")
    opened = []
    for f, module in zip(found, modules, strict=True):
        if f.path in parents:
            method, its_preset = _open(*parents[f.path], preset, settings)
            opened.append((_controlled(f, module, method), its_preset))
        else:
            opened.append(_open(f, module, preset, settings))
    return opened


def own_settings(found: Found, settings: Mapping[str, Any], among: Sequence[Found]) -> set[str]:
    """The settings that a method's Config has; for a control also those of the method that it is of."""
    modules = [load_method(found)]
    if hasattr(modules[0], "CONTROL"):
        modules.append(_parent(found, modules[0], settings, among)[1])
    return {name for module in modules for name in names_of(module.Config)}


def _parent(
    found: Found, module: ModuleType, settings: Mapping[str, Any], among: Sequence[Found]
) -> tuple[Found, ModuleType]:
    """The method that a control is of."""
    if module.CONTROL not in CONTROLS:
        raise UserError(f"{found.path}: CONTROL is '{module.CONTROL}', known: {', '.join(CONTROLS)}")
    parent = resolve(replaced(module.Config(), settings).of, among, "method")
    loaded = load_method(parent)
    if "shots" not in getattr(loaded, "SEES", ()):
        raise UserError(f"--set of: method '{parent.name}' sees no shots, so there is nothing to control")
    return parent, loaded


def _controlled(found: Found, module: ModuleType, of: Method) -> Method:
    fingerprint = digest([file_sha256(found.path), of.hash])
    name = f"{found.name}-{of.name}"
    return replace(
        of, name=name, kind=found.kind, hash=fingerprint, control=module.CONTROL, trained_as=of.hash
    )


def _open(
    found: Found, module: ModuleType, preset: Preset, settings: Mapping[str, Any]
) -> tuple[Method, Preset]:
    if unknown := set(module.SEES) - set(PARTS):
        raise UserError(f"{found.path}: SEES holds '{unknown.pop()}', known: {', '.join(PARTS)}")
    config = replaced(module.Config(), settings)
    own = names_of(config) | {"name", "source"}
    preset = replaced(preset, {k: v for k, v in settings.items() if k not in own})
    files = [found.path, *(builtin_method(name).path for name in getattr(module, "BUILDS_ON", ()))]
    fingerprint = digest([*map(file_sha256, files), dataclasses.asdict(config)])
    return Method(found.name, found.kind, module, config, fingerprint, preset.show_rejected), preset
