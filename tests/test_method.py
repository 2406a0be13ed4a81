"""A method's contract: settings that are checked, and eyes that see only what it declares."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.data.tasks import Preference, User
from fspo_bench.errors import UserError
from fspo_bench.lm.prompts import Context
from fspo_bench.method import Method, open_methods
from fspo_bench.packs import find_methods, packs, resolve
from fspo_bench.presets import Preset, preset
from tests.conftest import SMALL

USER = User(user_id="u", split="test", description="the secret description", traits={"secret": 1.0})
SHOTS = (Preference("q", "Where to?", "The sea.", "The town."),)
SOURCE = '''"""Repeats what it sees."""

from __future__ import annotations

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context

SEES = {sees}


@dataclass(frozen=True)
class Config:
    depth: int = 2
    rate: float = 0.5
    style: str = "plain"
    loud: bool = False

    def __post_init__(self) -> None:
        if self.depth > 9:
            raise ValueError(f"depth is {{self.depth}}, at most 9")


def context(seen, config):
    return Context(opening=repr(seen) + str(config))
'''


def write(folder: Path, sees: str = '("shots",)', more: str = "") -> Path:
    file = folder / "echo.py"
    file.write_text(SOURCE.format(sees=sees) + more)
    return file


def opened(file: Path, settings: Mapping[str, Any] | None = None) -> tuple[Method, Preset]:
    return open_methods([resolve(str(file), [], "method")], SMALL, settings or {})[0]


@pytest.mark.parametrize(
    ("sees", "shots", "description"),
    [
        ("()", False, False),
        ('("shots",)', True, False),
        ('("description",)', False, True),
        ('("shots", "description")', True, True),
    ],
)
def test_a_method_sees_what_it_declares_and_nothing_else(
    tmp_path: Path, sees: str, shots: bool, description: bool
) -> None:
    method, _ = opened(write(tmp_path, sees))
    shown = method.context(method.seen(USER, SHOTS)).opening
    assert (repr(SHOTS) in shown) == shots
    assert ("the secret description" in shown) == description
    assert ("shots=()" in shown) != shots
    assert ("description=''" in shown) != description
    assert "traits" not in shown  # nor its id, split or traits in any case
    assert method.personal == (shots or description)
    assert method.sees_description == description


def test_a_method_cannot_reach_the_description_by_asking(tmp_path: Path) -> None:
    more = "\n\ndef context(seen, config):\n    return Context(f'[{seen.description}]{sorted(vars(seen))}')\n"
    method, _ = opened(write(tmp_path, more=more))
    shown = method.context(method.seen(USER, SHOTS)).system
    assert shown == "[]['description', 'shots', 'show_rejected', 'user_id']"
    assert method.seen(USER, SHOTS).user_id == ""


def test_a_context_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    method, _ = opened(write(tmp_path, more="\n\ndef context(seen, config):\n    return 'text'\n"))
    with pytest.raises(UserError, match=r"echo\.py: context\(\) returned str, needs a .*Context"):
        method.context(method.seen(USER, SHOTS))


def test_sees_must_name_known_parts(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"echo\.py: SEES holds 'traits', known: shots, description, train_descriptions, judge",
    ):
        opened(write(tmp_path, '("shots", "traits")'))


def built_in() -> list[Method]:
    found = find_methods(packs()[:1])
    return [m for m, _ in open_methods(found, SMALL, {}, among=found)]


def test_of_the_built_in_ones_only_the_oracles_see_the_description() -> None:
    every = built_in()
    assert {m.name for m in every if m.sees_description} == {"oracle", "persona_shots"}
    assert {m.name for m in every if m.seen(USER, SHOTS).user_id} == {"best_of_k"}
    for method in every:
        if not method.sees_description:
            seen = method.seen(USER, SHOTS)
            assert "secret" not in str(seen), method.name
            if hasattr(method.module, "context"):
                assert "secret" not in str(method.context(seen)), method.name


def test_population_methods_read_nothing_of_the_user() -> None:
    blind = {m.name: m for m in built_in() if not m.personal}
    assert set(blind) == {"base", "sft", "ipo", "dpo", "verbose", "concise"}
    for name in ("base", "sft", "ipo", "dpo"):
        assert blind[name].context(blind[name].seen(USER, SHOTS)) == Context()


def test_a_control_is_the_method_that_it_spoils() -> None:
    found = find_methods(packs()[:1])
    control = resolve("wrong_user", found, "method")
    (spoilt, budget), (plain, _) = open_methods(
        [control, resolve("fspo", found, "method")], SMALL, {"loss": "dpo"}, among=found
    )
    assert (spoilt.name, spoilt.control, plain.control) == ("wrong_user-fspo", "wrong_user", "")
    assert spoilt.changed == plain.changed == {"loss": "dpo"}
    assert spoilt.stages(budget) == plain.stages(budget)
    assert spoilt.hash != plain.hash
    (other, _) = open_methods([control], SMALL, {"of": "pref_ft"}, among=found)[0]
    assert other.name == "wrong_user-pref_ft"


@pytest.mark.parametrize(("of", "says"), [("ipo", "'ipo' sees no shots"), ("fspoo", "did you mean 'fspo'")])
def test_a_control_of_what_cannot_be_controlled_is_refused(of: str, says: str) -> None:
    found = find_methods(packs()[:1])
    with pytest.raises(UserError, match=says):
        open_methods([resolve("wrong_user", found, "method")], SMALL, {"of": of}, among=found)


def test_settings_go_to_the_method_first_then_to_the_preset(tmp_path: Path) -> None:
    method, changed = opened(write(tmp_path), {"depth": 3, "style": "bold", "shots": 1, "lr": 1})
    assert (method.config.depth, method.config.style, method.config.rate) == (3, "bold", 0.5)
    assert (changed.shots, changed.lr, changed.queries) == (1, 1.0, SMALL.queries)
    own, unchanged = opened(write(tmp_path, more=""), {"rate": 2})
    assert own.config.rate == 2.0
    assert unchanged == SMALL


@pytest.mark.parametrize(
    ("key", "hint"), [("dept", "did you mean 'depth'?"), ("lora_rnk", "did you mean 'lora_rank'?"),
                      ("name", "did you mean"), ("zzzzzz", "known: ")]
)  # fmt: skip
def test_an_unknown_setting_gets_the_nearest(tmp_path: Path, key: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        opened(write(tmp_path), {key: 1})
    assert str(error.value).startswith(f"--set {key}: method 'echo' has no such setting")
    if key != "name":
        assert hint in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("depth", 2.5, "'2.5' is not a whole number"),
        ("depth", True, "'True' is not a whole number"),
        ("depth", "two", "'two' is not a whole number"),
        ("rate", "fast", "'fast' is not a number"),
        ("rate", True, "'True' is not a number"),
        ("style", 3, "'3' is not a text"),
        ("style", None, "'None' is not a text"),
        ("loud", 1, "'1' is not true or false"),
        ("shots", 1.0, "'1.0' is not a whole number"),
        ("chat_template", "no", "'no' is not true or false"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(tmp_path: Path, key: str, value: object, wanted: str) -> None:
    with pytest.raises(UserError) as error:
        opened(write(tmp_path), {key: value})
    assert str(error.value) == f"--set {key}: {wanted}"


@pytest.mark.parametrize(
    ("key", "value"),
    [("shots", -1), ("chunk", 0), ("test_users", 0), ("lora_rank", -1), ("dtype", "float99")],
)
def test_a_setting_out_of_bounds_is_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"--set: {key} is"):
        opened(write(tmp_path), {key: value})


def test_full_training_in_half_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too small for half precision"):
        opened(write(tmp_path), {"lora_rank": 0, "dtype": "bfloat16"})
    assert preset("paper").dtype == "float32"


def test_a_methods_own_check_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--set: depth is 10, at most 9"):
        opened(write(tmp_path), {"depth": 10})
    fspo = resolve("fspo", find_methods(packs()[:1]), "method")
    with pytest.raises(UserError, match="loss is 'dppo', known: ipo, dpo"):
        open_methods([fspo], SMALL, {"loss": "dppo"})[0]


def test_the_hash_covers_the_source_and_the_settings(tmp_path: Path) -> None:
    plain = opened(write(tmp_path))[0].hash
    assert opened(write(tmp_path))[0].hash == plain
    assert opened(write(tmp_path), {"depth": 2})[0].hash == plain  # the default, said aloud
    assert opened(write(tmp_path), {"depth": 3})[0].hash != plain
    assert opened(write(tmp_path), {"shots": 1})[0].hash == plain  # the preset's hash is its own
    assert opened(write(tmp_path, more="# a comment\n"))[0].hash != plain


def test_stages_are_the_methods_own(tmp_path: Path) -> None:
    assert opened(write(tmp_path))[0].stages(SMALL) == []
    more = "\n\ndef stages(config, preset):\n    return [config.depth, preset.contexts]\n"
    assert opened(write(tmp_path, more=more), {"depth": 4})[0].stages(SMALL) == [4, SMALL.contexts]


@pytest.mark.parametrize(("loss", "beta"), [("ipo", 0.3), ("dpo", 0.7)])
def test_fspo_is_pref_ft_then_a_preference_loss_of_its_beta(loss: str, beta: float) -> None:
    fspo = resolve("fspo", find_methods(packs()[:1]), "method")
    method, changed = open_methods(
        [fspo], SMALL, {"loss": loss, "ipo_beta": 0.3, "dpo_beta": 0.7, "contexts": 5}
    )[0]
    first, second = method.stages(changed)
    assert (first.loss, first.contexts) == ("sft", SMALL.sft_contexts)
    assert (second.loss, second.beta, second.contexts) == (loss, beta, 5)


def test_the_preset_decides_whether_rejected_answers_are_shown() -> None:
    few_shot = resolve("few_shot", find_methods(packs()[:1]), "method")
    for shown in (True, False):
        method, _ = open_methods([few_shot], SMALL, {"show_rejected": shown})[0]
        assert ("The town." in str(method.context(method.seen(USER, SHOTS)))) == shown
        assert "The sea." in str(method.context(method.seen(USER, SHOTS)))
    assert preset("paper").show_rejected  # as the paper does


def test_presets_by_name() -> None:
    assert preset("small") is SMALL
    assert preset("paper").model == "hf/meta-llama/Llama-3.2-3B-Instruct"
    with pytest.raises(UserError, match=r"unknown preset 'papr', did you mean 'paper'\?"):
        preset("papr")


def test_the_hash_covers_what_a_method_builds_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, more="\n\nBUILDS_ON = ('fspo',)\n")
    before = opened(file)[0].hash
    edited = tmp_path / "fspo.py"
    edited.write_text("# another\n")
    other = resolve("fspo", find_methods(packs()[:1]), "method")
    monkeypatch.setattr("fspo_bench.method.builtin_method", lambda name: replace(other, path=edited))
    assert opened(file)[0].hash != before
