"""The comparison's own parts: FLOP formula, what a step runs (counts, never seconds), gate, text."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floors import (
    Geometry,
    Rates,
    attended,
    attention_flops,
    forward_flops,
    generation_floor,
    tokens_run,
    tokens_scored,
    training_flops,
)
from benchmarks.measure import Side, Turns, Unequal, alternate, median_interval
from benchmarks.report import BEGIN, END, Row, aborted, table, timed, write
from benchmarks.shapes import SHAPES, made_episode, made_model, tree
from benchmarks.sides import CHUNK, OurSide, Paired, Settings
from fspo_bench.lm.generate import Asked, generate
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.shared_context import score
from fspo_bench.lm.train import Encoded, reference_logprobs
from fspo_bench.store import Store

ROOT = Path(__file__).resolve().parents[1]
SMALL = Geometry(layers=2, hidden=4, heads=2, kv_heads=1, head_dim=2, ffn=6, vocab=10)
TREE = [(2, [3, 2])]  # one question of two tokens, answers of three and two; the prefix has three
TINY = SHAPES["tiny"]


@contextmanager
def through(module: torch.nn.Module) -> Iterator[list[int]]:
    """Rows that go through a module while entered, for each of its calls."""
    seen: list[int] = []
    handle = module.register_forward_hook(
        lambda _m, inputs, _o: seen.append(inputs[0].numel() // inputs[0].shape[-1])
    )
    yield seen
    handle.remove()


@pytest.fixture
def made() -> tuple[Any, Encoded]:
    """A model past its first use (which checks it), and an episode of three pairs."""
    model, episode = made_model(TINY), made_episode(TINY, 3)
    score(model, episode.prefix, episode.branches, CHUNK)
    return model, episode


def a_step(model: Any, episode: Encoded, chunk: int) -> None:
    OurSide(model, episode, [0.0] * len(episode.branches), chunk).gradients()


def test_flops_equal_a_count_by_hand() -> None:
    assert SMALL.layer_weights == 2 * (16 + 8 + 8 + 16 + 3 * 24)  # q, k, v, o, three of the feed-forward
    assert tokens_run(3, TREE) == 3 + 2 + 2 + 1
    assert tokens_scored(TREE) == 5
    assert attended(3, TREE) == (1 + 2 + 3) + (4 + 5) + (6 + 7) + 6
    everything = 2 * 240 * 8 + 2 * (2 * 2 * 4) * 34 + 2 * 40 * 5
    unread = 2 * (16 + 16 + 72) * 3 + (2 * 2 * 4) * 6  # the last layer's outputs for the prefix
    assert forward_flops(SMALL, 3, TREE) == everything - unread == 4608
    assert training_flops(SMALL, 3, TREE) == 3 * 4608


def test_flops_outside_attention_equal_what_torch_counts() -> None:
    """Its counter knows no formula for the CPU's attention kernel, so that part is not in it."""

    def onednn(x: tuple[int, ...], weight: tuple[int, ...], *_: object, **__: object) -> int:
        return 2 * math.prod(x) * weight[0]

    model, episode = made_model(TINY), made_episode(TINY, 2)
    score(model, episode.prefix, episode.branches, CHUNK)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: onednn})
    with counter:
        a_step(model, episode, len(episode.branches))
    counts = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    g, prefix, sizes = TINY.geometry, len(episode.prefix), tree(episode)
    attention = g.layers * attention_flops(g, attended(prefix, sizes))
    attention -= attention_flops(g, attended(prefix, []))  # of the last layer, for the prefix
    run_for_nothing = 2 * g.own_weights * prefix  # forward only: no gradient comes back to it
    products = counts["aten.mm"] + counts["mkldnn._linear_pointwise"]
    assert products == training_flops(g, prefix, sizes) - 3 * attention + run_for_nothing


def test_a_decoding_step_takes_at_least_its_reading_of_the_weights() -> None:
    rates = Rates({"a": 1e3, "b": 1e6}, copy=100.0)
    prefill = forward_flops(SMALL, 3, [(2, [1]), (2, [1])]) / 1e6
    assert generation_floor(SMALL, 3, [2, 2], 5, rates, 4) == pytest.approx(prefill + 4 * 280 * 4 / 100)


@pytest.mark.parametrize("chunk", [2, 6])
def test_a_step_runs_every_token_of_the_tree_once(made: tuple[Any, Encoded], chunk: int) -> None:
    model, episode = made
    with through(model.model.layers[0]) as seen:
        a_step(model, episode, chunk)
    assert sum(seen) == tokens_run(len(episode.prefix), tree(episode))
    questions = sum(len(b.given) for b in episode.branches[0::2])
    assert sum(seen) == len(episode.prefix) + questions + sum(len(b.scored) - 1 for b in episode.branches)


def test_the_head_runs_on_scored_tokens_only(made: tuple[Any, Encoded]) -> None:
    model, episode = made
    with through(model.lm_head) as seen:
        a_step(model, episode, CHUNK)
    assert sum(seen) == tokens_scored(tree(episode)) == sum(len(b.scored) for b in episode.branches)


def test_a_warm_store_runs_the_model_zero_times(made: tuple[Any, Encoded], tmp_path: Path) -> None:
    model, episode = made
    policy, store = cast(Policy, SimpleNamespace(model=model, key="k")), Store(tmp_path)
    with through(model.model.layers[0]) as cold:
        first = reference_logprobs(policy, episode, CHUNK, store)
    assert sum(cold) == tokens_run(len(episode.prefix), tree(episode))
    with through(model.model.layers[0]) as warm:
        assert reference_logprobs(policy, episode, CHUNK, store) == first
    assert warm == []


def test_generation_reads_the_context_once(made: tuple[Any, Encoded]) -> None:
    model, episode = made
    questions = tuple(b.given for b in episode.branches[0::2])
    with through(model.model.layers[0]) as seen:
        generate(model, [Asked(episode.prefix, questions)], end=TINY.geometry.vocab - 1, max_new_tokens=4)
    width = max(map(len, questions))
    assert seen == [len(episode.prefix), width * len(questions), *[len(questions)] * (len(seen) - 2)]


def test_rounds_alternate_and_ratios_are_theirs_over_ours() -> None:
    calls: list[str] = []
    turns = alternate(lambda: calls.append("a"), lambda: calls.append("b"), rounds=3)
    assert calls == ["a", "b"] * 3
    assert [len(side.seconds) for side in (turns.ours, turns.theirs)] == [3, 3]
    assert Turns(Side([1.0, 2.0]), Side([3.0, 8.0]), None).ratios() == [3.0, 4.0]
    assert median_interval([3.0, 3.0, 3.0]) == (3.0, 3.0, 3.0)
    middle, low, high = median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert low < middle == 3 < high


@pytest.mark.parametrize(
    ("cpu", "others", "shared"),
    [(1.9, 0.5, False), (1.2, 0.3, True), (1.2, None, True), (1.2, 0.0, False)],
    ids=["had it all", "others were busy", "not known", "work that fills no second thread"],
)
def test_a_shared_machine_is_marked(cpu: float, others: float | None, shared: bool) -> None:
    turns = Turns(Side([1.0], cpu), Side([1.0], cpu), others)
    row = timed("r", "x", turns, 1, "runs/s", threads=2)
    assert any("shared machine" in remark for remark in row.remarks) is shared


def test_results_stand_between_the_marks(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    write(file, "new")
    assert file.read_text() == f"above\n{BEGIN}\nnew\n{END}\nbelow\n"
    file.write_text("no marks")
    with pytest.raises(SystemExit, match="has no"):
        write(file, "new")
    write(tmp_path / "fresh.md", "new")
    assert (tmp_path / "fresh.md").read_text() == "new\n"


def test_an_aborted_row_says_so() -> None:
    text = table([aborted("row", "gradient: 1e-2 apart"), Row("other", "x", details=["told below"])])
    assert "ABORTED, nothing timed: gradient" in text
    assert text.endswith("- other: told below")


def test_the_page_has_its_marks() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert page.count(BEGIN) == page.count(END) == 1


@pytest.mark.parametrize("missing", [["trl", "datasets"], ["trl", "datasets", "torch", "transformers"]])
def test_help_works_without_the_comparator(missing: list[str]) -> None:
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({missing!r}));"
        "sys.argv = ['compare.py', '--help']; runpy.run_path('benchmarks/compare.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--rounds" in done.stdout


def test_an_unknown_row_is_named() -> None:
    from benchmarks.compare import main

    with pytest.raises(SystemExit, match="--rows speed: give some of train,memory"):
        main(["--rows", "speed"])


class TestAgainstTrl:
    """Where the comparator is installed (the `bench` extra)."""

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("trl")

    def paired(self, pairs: int) -> Paired:
        return Paired(Settings(TINY, (pairs,), 1, None, None, "cpu", torch.float32), pairs)

    @pytest.mark.parametrize(("pairs", "batch"), [(1, 1), (3, 1), (3, 3)])
    def test_both_sides_train_alike(self, pairs: int, batch: int) -> None:
        paired = self.paired(pairs)
        before = paired.our_model.model.embed_tokens.weight.clone()
        assert paired.gate(paired.ours(CHUNK), paired.trl(batch)).startswith("equal: log-probs")
        assert torch.equal(paired.our_model.model.embed_tokens.weight, before), "the gate puts weights back"

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda side: setattr(side, "reference", side.reference + torch.tensor([0.1, 0.0])), "loss"),
            (lambda side: setattr(side, "gradients", lambda: _doubled(side)), "gradient"),
        ],
    )
    def test_a_side_that_is_off_is_refused(self, change: Callable[[OurSide], None], named: str) -> None:
        paired = self.paired(1)
        ours = paired.ours(CHUNK)
        change(ours)
        with pytest.raises(Unequal, match=named):
            paired.gate(ours, paired.trl(1))


def _doubled(side: OurSide) -> float:
    loss = OurSide.gradients(side)
    OurSide.gradients(side)
    return loss
