"""Tasks in lm-eval's files: its figures are those of our own scoring, pair by pair, from any folder."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.cli import main
from fspo_bench.data.sources import open_task
from fspo_bench.data.tasks import EVALUATION_SEED, Task
from fspo_bench.export.lm_eval import export_lm_eval
from fspo_bench.lm.models import model_dir
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen, shots_context
from fspo_bench.lm.shared_context import Branch, score
from fspo_bench.packs import builtin_root
from fspo_bench.presets import Preset, preset

pytest.importorskip("lm_eval")
REVIEWS = builtin_root() / "tasks" / "reviews"
SOME = replace(preset("tiny"), shots=3, test_users=3, test_pairs=2)
Pair = tuple[str, int, str]  # user, round, question


def ours(task: Task, budget: Preset, chat_template: bool, with_shots: bool) -> dict[Pair, list[float]]:
    """What our own scoring gives lm-eval's rule: the chosen and the rejected answer's summed log-probability.

    The token that ends an answer is left out, and white space before the answer counts with it.
    """
    policy = Policy.open(budget.model, 0, "float32", 0)
    encoder = PromptEncoder(policy.tokenizer, task.spec.instruction, chat_template)
    found = {}
    for e in task.test_episodes(budget.shots, budget.test_pairs, budget.test_users, EVALUATION_SEED):
        seen = Seen(shots=e.shots, show_rejected=budget.show_rejected)
        context = shots_context(seen) if with_shots else Context()
        branches = [
            moved(policy, encoder.question(q.prompt), encoder.answer(text)[:-1])
            for q in e.queries
            for text in (q.chosen, q.rejected)
        ]
        scores = [float(x) for x in score(policy.model, encoder.prefix(context), branches, budget.chunk)]
        for n, q in enumerate(e.queries):
            found[e.user_id, e.round, q.question_id] = scores[2 * n : 2 * n + 2]
    return found


def moved(policy: Policy, given: tuple[int, ...], scored: tuple[int, ...]) -> Branch:
    while str(policy.tokenizer.decode(given[-1:])).isspace():
        given, scored = given[:-1], (*given[-1:], *scored)
    return Branch(given, scored)


def theirs(samples: Sequence[Mapping[str, Any]]) -> dict[Pair, list[float]]:
    """The same from lm-eval's log: the chosen and the rejected answer's log-likelihood."""
    found = {}
    for s in samples:
        doc, values = s["doc"], [float(value) for value, _ in s["filtered_resps"]]
        chosen, rejected = values[doc["label"]], values[1 - doc["label"]]
        found[doc["user_id"], doc["round"], doc["question_id"]] = [chosen, rejected]
        assert s["acc"] == float(chosen > rejected)
        lengths = [len(text) for text in doc["choices"]]
        of_characters = [value / n for value, n in zip(values, lengths, strict=True)]
        assert s["acc_norm"] == float(of_characters[doc["label"]] > of_characters[1 - doc["label"]])
    return found


@pytest.mark.parametrize("show_rejected", [False, True], ids=["turns", "worked-examples"])
@pytest.mark.parametrize("chat_template", [True, False], ids=["chat", "plain"])
def test_lm_evals_log_likelihoods_are_ours(tmp_path: Path, chat_template: bool, show_rejected: bool) -> None:
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    task, budget = open_task(REVIEWS, "micro"), replace(SOME, show_rejected=show_rejected)
    export_lm_eval([task], budget, tmp_path / "made")
    shutil.move(tmp_path / "made", tmp_path / "moved")
    manager = TaskManager(include_path=str(tmp_path / "moved"), include_defaults=False)
    found = evaluate(
        HFLM(str(model_dir("micro")), dtype="float32", device="cpu", batch_size=4),
        manager.load(["fspo_reviews"]), apply_chat_template=chat_template, bootstrap_iters=0,
    )  # fmt: skip
    assert found
    for part, with_shots in (("fspo_reviews_shots", True), ("fspo_reviews_no_shots", False)):
        mine, other = ours(task, budget, chat_template, with_shots), theirs(found["samples"][part])
        assert mine.keys() == other.keys()
        assert len(mine) == 6
        for pair, values in mine.items():
            assert other[pair] == pytest.approx(values, abs=1e-3)
        accuracy = sum(chosen > rejected for chosen, rejected in mine.values()) / len(mine)
        assert found["results"][part]["acc,none"] == pytest.approx(accuracy)


def test_the_right_answer_takes_either_place(tmp_path: Path) -> None:
    export_lm_eval([open_task(REVIEWS)], replace(SOME, test_users=24), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "fspo_reviews_shots.jsonl").read_text().splitlines()]
    assert 0.3 < sum(row["label"] for row in rows) / len(rows) < 0.7
    assert {"Write a short review"} <= {row["messages"][0]["content"][:20] for row in rows}


def test_the_verb_writes_every_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export-tasks", "--to", "lm-eval", str(out), "--shots", "2", "--json"]) == 0
    files = [Path(f) for f in json.loads(capsys.readouterr().out)]
    assert set(files) == set(out.iterdir())
    groups = {f.stem for f in files if f.suffix == ".yaml" and "_shots" not in f.stem}
    assert groups == {"fspo_elix_easy", "fspo_elix_hard", "fspo_reviews", "fspo_roleplay"}
    (row, *_) = (out / "fspo_roleplay_shots.jsonl").read_text().splitlines()
    assert [m["role"] for m in json.loads(row)["messages"]].count("assistant") == 2
    assert "CC-BY-4.0" in (out / "README.md").read_text()


def test_a_file_in_the_way_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("precious")
    assert main(["export-tasks", "--to", "lm-eval", str(tmp_path / "out"), "--task", "reviews"]) == 2
    assert f"cannot write into '{tmp_path / 'out'}'" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_smollm2_from_another_folder_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 pairs of reviews by `lm_eval run`, offline: each is ranked as by our own scoring."""
    task, budget = open_task(REVIEWS), replace(preset("cpu"), test_users=16)
    export_lm_eval([task], budget, tmp_path / "made")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "fspo_reviews", "--device", "cpu",
        "--model_args", f"pretrained={model_dir(budget.model)},dtype=float32", "--apply_chat_template",
        "--include_path", "../made", "--batch_size", "8", "--output_path", "found", "--log_samples",
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=1000)
    for part, with_shots in (("fspo_reviews_shots", True), ("fspo_reviews_no_shots", False)):
        (log,) = Path("found").rglob(f"samples_{part}_*.jsonl")
        other = theirs([json.loads(line) for line in log.read_text().splitlines()])
        mine = ours(task, budget, True, with_shots)
        assert mine.keys() == other.keys()
        assert len(mine) == 48
        for pair, values in mine.items():
            assert other[pair] == pytest.approx(values, rel=1e-4)
        accuracy = sum(chosen > rejected for chosen, rejected in mine.values()) / len(mine)
        print(f"{part}: {100 * accuracy:.1f}% of {len(mine)} pairs by both")
