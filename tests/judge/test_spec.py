"""Judges' files: every bundled one is sound, and a fault is one sentence with file and field."""

from pathlib import Path

import pytest

from fspo_bench.errors import UserError
from fspo_bench.judge.spec import OFFLINE, Price, Prompt, read_prompt, read_spec
from fspo_bench.packs import Found, find_judges, packs

BUNDLED = find_judges(packs()[:1])
GOOD = {
    "judge.yaml": "summary: s\nmodel: openai/x\nprompt: p.md\n",
    "p.md": "# user\n{question} {first} {second}\n",
}


def write(folder: Path, **files: str) -> Found:
    folder.mkdir(exist_ok=True)
    for name, text in {**GOOD, **{k.replace("__", "."): v for k, v in files.items()}}.items():
        (folder / name).write_text(text)
    return Found("mine", "judge", "path", folder)


@pytest.mark.parametrize("found", BUNDLED, ids=lambda f: f.name)
def test_bundled_judges_are_sound(found: Found) -> None:
    spec = read_spec(found)
    if spec.model != OFFLINE:
        prompt = read_prompt(found, spec)
        assert "{description}" in prompt.user
        assert spec.model in spec.prices
        assert all(f"`{label}`" in prompt.user for label in spec.labels)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"judge__yaml": "summary: s\nmodel: openai/x\nprompt: p.md\norders: both\n"},
            "judge.yaml: orders: Extra",
        ),
        ({"judge__yaml": "summary: s\nmodel: openai/x\n"}, "`prompt` is missing"),
        (
            {"judge__yaml": "summary: s\nmodel: openai/x\nprompt: p.md\nlabels: [a, a]\n"},
            "labels must differ",
        ),
        ({"judge__yaml": "summary: [\n"}, "not YAML"),
        ({"judge__yaml": "summary: s\nmodel: openai/x\nprompt: q.md\n"}, "prompt: no file"),
        ({"p__md": "{question} {first} {second}"}, "no part under a line '# user'"),
        ({"p__md": "# user\n{first} {question} {second}"}, "in this order"),
        ({"p__md": "# user\n{question} {first}"}, "once each"),
        ({"p__md": "# user\n{question} {first} {second} {first}"}, "once each"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, files: dict[str, str], says: str) -> None:
    found = write(tmp_path / "mine", **files)
    with pytest.raises(UserError, match=says) as error:
        read_prompt(found, read_spec(found))
    assert str(tmp_path) in str(error.value)


def test_slots_are_filled_once_whatever_stands_in_an_answer() -> None:
    prompt = Prompt(system="", user="{question}|{first}|{second}")
    values = {"description": "d", "question": "q", "first": "{second} {description}", "second": "{0} \\1"}
    shared, whole = prompt.filled(values)
    assert (shared, whole) == ("q|", "q|{second} {description}|{0} \\1")


def test_prices_are_per_million_and_cached_tokens_cheaper() -> None:
    price = Price(input=2.0, cached=0.5, output=10.0)
    assert price.cost(1_000_000, 1_000_000) == 12.0
    assert price.cost(1_000_000, 0, cached_tokens=1_000_000) == 0.5
    assert Price(input=2.0, output=0.0).cost(1_000_000, 0, cached_tokens=1_000_000) == 2.0
