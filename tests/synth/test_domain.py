"""Domain files: the bundled ones load, and a slip is one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fspo_bench.data.task_files import read_spec
from fspo_bench.errors import UserError
from fspo_bench.packs import builtin_root
from fspo_bench.synth.domain import SWITCHES, read_domain, spread
from tests.synth.scripted import domain

BUNDLED = ("roleplay", "elix_easy", "elix_hard", "reviews")


def written(tmp_path: Path, **changes: Any) -> Path:
    file = tmp_path / "domain.yaml"
    file.write_text(yaml.safe_dump(domain(**changes).model_dump(mode="json")), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_domains_load(name: str) -> None:
    folder = builtin_root() / "tasks" / name
    read = read_domain(folder / "domain.yaml")
    spec = read_spec(folder)
    assert (read.instruction, read.max_new_tokens) == (spec.instruction, spec.max_new_tokens)
    assert len({kind.name for kind in read.questions.kinds}) == len(read.questions.kinds)
    seeds = [seed for kind in read.questions.kinds for seed in kind.seeds]
    assert len(seeds) == len(set(seeds)) >= 8
    assert read_domain(folder / "domain.yaml", scale=0.01).users.count <= max(1, read.users.count // 20)


def test_the_sizes_are_the_papers() -> None:
    of = {name: read_domain(builtin_root() / "tasks" / name / "domain.yaml").users for name in BUNDLED}
    assert (of["roleplay"].count, of["elix_hard"].count) == (1500, 550)
    assert (len(of["elix_easy"].fixed), len(of["reviews"].fixed)) == (5, 8)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (("answers", "veiws"), 3, r"'answers.veiws': unknown key, did you mean 'views'\?"),
        (("summary",), None, "'summary': input should be a valid string"),
        (("labels", "repeats"), 3, "'labels': repeats at temperature 0 say the same again"),
        (("labels", "questions"), 3, "labels.questions is 3; 3 shots and a query need more"),
        (("answers", "views"), 1, "a preference needs two answers"),
        (("users", "count"), 0, "give either `fixed` users or a `count`"),
        (("questions", "kinds"), [], "'questions.kinds': list should have at least 1 item"),
    ],
)
def test_a_slip_is_one_sentence(tmp_path: Path, key: tuple[str, ...], value: Any, says: str) -> None:
    file = written(tmp_path)
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    part = given
    for name in key[:-1]:
        part = part[name]
    part[key[-1]] = value
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    with pytest.raises(UserError, match=f"domain.yaml.*{says}"):
        read_domain(file)


def test_a_missing_or_broken_file_and_a_wrong_switch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read '.*none.yaml' \(No such file"):
        read_domain(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UserError, match="not YAML"):
        read_domain(tmp_path / "bad.yaml")
    with pytest.raises(UserError, match="--without veiws: no such part, did you mean 'views'"):
        read_domain(written(tmp_path), ["veiws"])


def test_each_switch_leaves_its_part_out(tmp_path: Path) -> None:
    file = written(tmp_path, answers={"views": 2, "personas": 1, "plain": 1})
    assert read_domain(file).hows == ["view", "view", "persona", "plain"]
    assert read_domain(file, ["views"]).hows == ["plain", "plain", "persona", "plain"]
    assert read_domain(file, ["steering"]).hows == ["view", "view", "plain", "plain"]
    assert read_domain(file, ["refinement"]).rounds == 0
    assert not read_domain(file, ["both_orders"]).both_orders
    assert read_domain(file, SWITCHES).without == sorted(SWITCHES)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("count", [1, 3, 10, 97])
def test_a_split_is_spread_evenly(share: float, count: int) -> None:
    chosen = [spread(place, share) for place in range(count)]
    assert abs(sum(chosen) - share * count) <= 0.5 + 1e-9
    assert sum(chosen[: count // 2]) <= sum(chosen)
