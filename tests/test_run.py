"""The whole line on a tiny random model: every method runs, a killed run resumes, keys follow bytes."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import fspo_bench.judge.offline as judge_module
from fspo_bench.cli import main
from fspo_bench.errors import UserError
from fspo_bench.evaluate.results import Record, read_record
from fspo_bench.lm.prompts import Context
from fspo_bench.packs import builtin_root, find_methods, packs
from fspo_bench.store import Store

METHODS = [found.name for found in find_methods(packs())]
POLICIES = ("fspo", "pref_ft", "ipo", "dpo", "sft", "ric", "vpl_policy", "wrong_user", "shuffled_labels")


@pytest.fixture(autouse=True)
def quick_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge's features from the text's letters instead of the 135M reader."""

    def read(texts: list[tuple[str, str]]) -> list[tuple[tuple[str, str], np.ndarray]]:
        return [
            (t, np.array([t[1].count(c) for c in "abcdefghijklmnop"], dtype=np.float32))
            for t in dict.fromkeys(texts)
        ]

    monkeypatch.setattr(judge_module, "_read_states", read)
    for user in ("fspo_bench.run", "fspo_bench.lab"):
        monkeypatch.setattr(f"{user}.sentence_embeddings", _letters)


def _letters(texts: Sequence[str], store: object) -> np.ndarray:
    """Stands for the sentence embedder: unit vectors of letter counts."""
    counts = np.array([[1 + t.count(c) for c in "abcdefghijklmnop"] for t in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture
def run(made_task: Path, tiny_model: Path, tmp_path: Path) -> Callable[..., Record]:
    """Run one method by the command line and give its record."""

    def run(method: str = "fspo", *more: str, model: Path = tiny_model) -> Record:
        runs = tmp_path / "runs"
        argv = ["run", "--method", method, "--task", str(made_task), "--preset", "small", "--debug"]
        assert main([*argv, "--model", str(model), "--output-path", str(runs), *more]) == 0
        newest = max(runs.rglob("result.json"), key=lambda f: f.stat().st_mtime_ns)
        return read_record(newest)

    return run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs(run: Callable[..., Record], method: str) -> None:
    record = run(method)
    assert record.method == (f"{method}-fspo" if method in ("wrong_user", "shuffled_labels") else method)
    assert record.complete
    assert record.metrics.win_rate is not None
    assert record.metrics.win_rate.n_users == 4
    assert record.metrics.preference_accuracy.n > 0
    blind = method in ("base", "sft", "ipo", "dpo", "verbose", "concise")
    assert (record.metrics.personal_gain is None) == blind
    parts = {"fspo_rat": {"policy", "describer"}, "popi": {"policy", "describer"}}
    assert set(record.weights) == parts.get(method, {"policy"} if method in POLICIES else set())
    assert all(Store().has_folder(key) for key in record.weights.values())


def test_base_against_itself_is_fifty(run: Callable[..., Record]) -> None:
    metric = run("base").metrics.win_rate
    assert metric is not None
    assert (metric.value, metric.ci95) == (50.0, (50.0, 50.0))


def test_json_keys_begin_as_promised(run: Callable[..., Record], capsys: pytest.CaptureFixture[str]) -> None:
    run("few_shot", "--json")
    record = json.loads(capsys.readouterr().out)
    assert list(record)[:9] == [
        "task",
        "method",
        "model",
        "preset",
        "seed",
        "complete",
        "judge",
        "metrics",
        "seconds",
    ]
    assert {"value", "ci95", "n_users", "n_questions"} <= set(record["metrics"]["win_rate"])
    assert {"name", "accuracy"} <= set(record["judge"])


def test_a_second_run_does_no_model_work(
    run: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("fspo")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("model work on a finished run")

    for name in (
        "fspo_bench.lm.generate.generate",
        "fspo_bench.lm.train.backward_through_context",
        "fspo_bench.lm.train.score",
    ):
        monkeypatch.setattr(name, forbidden)
    capsys.readouterr()
    assert run("fspo") == first
    assert "no model work" in capsys.readouterr().err


# One target a stage: where the run is killed, and at which call of it.
KILLS = [
    ("fspo_bench.lm.generate.generate", 1),
    ("fspo_bench.lm.train.backward_through_context", 2),
    ("fspo_bench.lm.train.score", 1),
    ("fspo_bench.lm.train.backward_through_context", 4),
    ("fspo_bench.lm.generate.generate", 2),
    ("fspo_bench.lm.train.score", 7),
    ("fspo_bench.run.card_of", 1),
    ("fspo_bench.evaluate.scoring.write_atomic", 1),
    ("fspo_bench.evaluate.scoring.write_atomic", 3),
]


@pytest.mark.parametrize(("target", "call"), KILLS)
def test_killed_anywhere_the_same_command_finishes_the_same(
    run: Callable[..., Record],
    own_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    call: int,
) -> None:
    whole = _comparable(run("fspo"), tmp_path)
    calls_of_whole_run = _calls_to_finish(run, own_home, tmp_path, monkeypatch)
    _forget(own_home, tmp_path)
    module, _, name = target.rpartition(".")
    original = __import__(module, fromlist=[name]).__dict__[name]
    begun = []

    def dies(*args: object, **kwargs: object) -> object:
        begun.append(1)
        if len(begun) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    finished = _counted_generate(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(target, dies)
        with pytest.raises(AssertionError):  # exit code 130 is not 0
            run("fspo")
    assert len(begun) == call, "the kill never happened"
    assert not list((tmp_path / "runs").rglob("result.json"))
    assert _comparable(run("fspo"), tmp_path) == whole
    assert len(finished) <= calls_of_whole_run, "a finished generation was repeated"


def _forget(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home)
    shutil.rmtree(tmp_path / "runs")


def _counted_generate(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    import fspo_bench.lm.generate as module

    original, finished = module.generate, []

    def counted(*args: object, **kwargs: object) -> object:
        result = original(*args, **kwargs)  # type: ignore[arg-type]
        finished.append(1)
        return result

    monkeypatch.setattr(module, "generate", counted)
    return finished


def _calls_to_finish(
    run: Callable[..., Record], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    _forget(home, tmp_path)
    with monkeypatch.context() as patch:
        finished = _counted_generate(patch)
        run("fspo")
    return len(finished)


def _comparable(record: Record, tmp_path: Path) -> tuple[object, str, str]:
    """Everything but the clock: the record and the bytes of outputs and verdicts."""
    folder = next((tmp_path / "runs").rglob("result.json")).parent
    fields = record.model_dump(exclude={"seconds", "stages", "command"})
    return fields, (folder / "outputs.jsonl").read_text(), (folder / "verdicts.jsonl").read_text()


def test_other_weights_are_another_run(run: Callable[..., Record], tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    first = run("few_shot")
    changed = tmp_path / "changed-model"
    shutil.copytree(tiny_model, changed)
    weights = load_file(changed / "model.safetensors")
    weights["model.norm.weight"] += 0.25
    save_file(weights, changed / "model.safetensors", {"format": "pt"})
    assert run("few_shot", model=changed).id != first.id


def test_settings_and_seed_are_another_run(run: Callable[..., Record]) -> None:
    ids = {run("fspo").id, run("fspo", "--set", "loss=dpo").id, run("fspo", "--seed", "1").id}
    assert len(ids) == 3


def test_limit_marks_the_run_as_partial(run: Callable[..., Record]) -> None:
    record = run("few_shot", "--limit", "2")
    assert not record.complete
    assert record.metrics.win_rate is not None
    assert record.metrics.win_rate.n_users == 2


def test_everybodys_shots_serve_once_as_anothers(
    run: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Context, str]] = []
    import fspo_bench.lab as module

    original = module.answers

    def noted(policy: object, encoder: object, questions: list[tuple[Context, str]], *rest: object) -> object:
        asked.extend(questions)
        return original(policy, encoder, questions, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "answers", noted)
    run("few_shot")
    contexts = {context for context, _ in asked}
    assert len(contexts) == 4
    assert len(asked) == len(set(asked)), "nothing is asked twice"
    asked.clear()
    run("wrong_user", "--set", "of=few_shot")
    assert {context for context, _ in asked} == contexts


def test_a_control_trains_what_its_method_trains(
    run: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small models and random streams too: nothing but the shots of the test differs."""
    record = run("vpl")
    import fspo_bench.lab as module

    def forbidden(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "building", forbidden)
    assert run("wrong_user", "--set", "of=vpl").measured == record.measured


def test_the_record_says_what_training_took(run: Callable[..., Record]) -> None:
    fspo, pref_ft, few_shot = run("fspo"), run("pref_ft"), run("few_shot")
    assert fspo.parameters == pref_ft.parameters > 0
    assert fspo.tokens > pref_ft.tokens > 0
    assert (few_shot.parameters, few_shot.tokens) == (0, 0)
    both = run("pref_ft", "--set", "targets=both")
    assert both.tokens > pref_ft.tokens
    assert both.label == "pref_ft (targets=both)"


def test_init_starts_from_saved_weights(run: Callable[..., Record], own_home: Path) -> None:
    plain = run("pref_ft")
    adapter = next(f.parent for f in (own_home / "store" / "folders").rglob("adapter_model.safetensors"))
    started = run("pref_ft", "--init", str(adapter))
    assert started.id != plain.id


def test_a_task_without_judge_questions_reports_accuracy_alone(
    run: Callable[..., Record], made_task: Path
) -> None:
    questions = made_task / "questions.jsonl"
    questions.write_text(questions.read_text().replace('"judge"', '"train"'))
    record = run("few_shot")
    assert record.metrics.win_rate is None
    assert record.judge is None
    assert any("judge" in note for note in record.notes)


def test_a_method_that_asks_the_judge_is_refused_before_any_work(
    run: Callable[..., Record], made_task: Path, tmp_path: Path
) -> None:
    questions = made_task / "questions.jsonl"
    questions.write_text(questions.read_text().replace('"judge"', '"train"'))
    with pytest.raises(UserError, match="asks the offline judge, and task made has none"):
        run("best_of_k")
    assert not (tmp_path / "runs").exists()


def guide_code() -> list[str]:
    guide = (builtin_root() / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
    return [block.split("```")[0] for block in guide.split("```python\n")[1:]]


def test_the_guides_reward_method_runs(
    run: Callable[..., Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = guide_code()[1]
    assert len(code.splitlines()) <= 60
    (tmp_path / "towards.py").write_text(code)
    record = run(str(tmp_path / "towards.py"), "--set", "everybody=0.2")
    assert record.label == "towards (everybody=0.2)"
    assert "reward_of_chosen" in record.measured
    assert "towards (everybody=0.2) measured: reward_of_chosen" in capsys.readouterr().out


def test_a_copy_of_a_built_in_method_runs(
    run: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cp", "fspo", "mine.py"]) == 0
    record = run("./mine.py", "--set", "loss=dpo")
    assert record.label == "mine (loss=dpo)"
    assert record.metrics == run("fspo", "--set", "loss=dpo").metrics


def test_finished_runs_are_compared(
    run: Callable[..., Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fspo, base = run("fspo"), run("base")
    capsys.readouterr()
    runs = ["--output-path", str(tmp_path / "runs")]
    assert main(["compare", fspo.id, base.id, *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["differences"]
    assert row["runs"] == "fspo - base"
    assert row["difference"]["n_users"] == 4
    assert {s["run"] for s in found["standings"]} == {"fspo", "base"}
    assert fspo.metrics.win_rate is not None
    assert row["difference"]["value"] == pytest.approx(fspo.metrics.win_rate.value - 50, abs=0.01)
    partial = run("base", "--limit", "2")
    assert main(["compare", fspo.id, partial.id, *runs]) == 2
    assert "asked other users or questions" in capsys.readouterr().err


def test_a_third_partys_pack_runs(made_task: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A method and a task from a folder elsewhere, asked for by name."""
    pack = tmp_path / "theirs"
    (pack / "methods").mkdir(parents=True)
    pack.joinpath("methods", "mine.py").write_text(guide_code()[0])
    shutil.copytree(made_task, pack / "tasks" / "garden")
    argv = ["run", "--pack", str(pack), "--method", "mine", "--task", "theirs/garden", "--preset", "small"]
    argv += [
        "--model",
        str(tiny_model),
        "--output-path",
        str(tmp_path / "runs"),
        "--set",
        "beta=0.2",
        "--debug",
    ]
    assert main(argv) == 0
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert read_record(result).spec["method"]["config"] == {"beta": 0.2}
