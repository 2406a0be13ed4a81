"""The report as a person gets it: of any task, of a synthesis half done, with figures and without."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fspo_bench.cli import main
from fspo_bench.errors import UserError
from fspo_bench.store import Store
from fspo_bench.synth import report as report_module
from fspo_bench.synth.metrics import LN2
from fspo_bench.synth.report import Report, as_json, markdown, report
from fspo_bench.synth.sections import Measure, Section
from tests.conftest import write_rows, write_task
from tests.made import edit, rated_task
from tests.synth.made_stages import always_first, label_rows, sure, write_stages


def bag_of_letters(texts: Sequence[str], store: Store, embedder: str = "") -> np.ndarray:
    counts = np.array([[text.lower().count(chr(97 + n)) + 1e-3 for n in range(26)] for text in texts])
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "sentence_embeddings", bag_of_letters)


def made(folder: Path) -> Report:
    return report(folder, "letters", Store())


def section(found: Report, title: str) -> Section:
    return next(s for s in found.sections if s.title == title)


def measure(found: Report, title: str, what: str) -> Measure:
    return next(m for m in section(found, title).measures if m.what == what)


def synthesis(folder: Path) -> Path:
    """Labels that hung on the order before refinement, and are sure after it."""
    after = label_rows(sure, refinement=1)
    return write_stages(folder, [*label_rows(always_first), *after])


TITLES = [
    "What there is", "Similarity of answers", "Near-duplicates", "Firmness of labels",
    "Disagreement between users", "Length", "What shots tell",
]  # fmt: skip


@pytest.mark.parametrize("write", [write_task, rated_task])
def test_any_task_gives_every_section_and_says_what_it_cannot_measure(tmp_path: Path, write: Any) -> None:
    found = made(write(tmp_path / "task", users=30, questions=30))
    assert [s.title for s in found.sections] == TITLES
    firmness = section(found, "Firmness of labels")
    assert not firmness.measures
    assert "Not measured" in firmness.notes[0]
    for s in found.sections:
        assert s.measures or s.notes, s.title
        for m in s.measures[s.title == "What there is" and len(s.measures) :]:
            assert m.n and all(m.n.values()), m


def test_the_data_cards_figures_are_the_reports(tmp_path: Path) -> None:
    from fspo_bench.data.task_files import load_task
    from fspo_bench.evaluate.datacard import ideal_observer, longer_wins

    folder = write_task(tmp_path / "task", users=30, questions=30)
    found, task = made(folder), load_task(folder)
    assert measure(found, "Length", "longer view chosen, test users").value == longer_wins(task).value
    shots = measure(found, "What shots tell", "ideal observer, 4 shots")
    assert shots.value == ideal_observer(task, 4).value


def test_users_who_are_copies_are_named(tmp_path: Path) -> None:
    found = made(rated_task(tmp_path / "task", users=30, questions=40))
    users = section(found, "Disagreement between users")
    copies = measure(found, "Disagreement between users", "pairs of users who never disagree")
    assert copies.value == copies.n["pairs of users"] > 0
    assert "agree on all" in users.notes[0]


def test_a_synthesis_says_what_its_stages_did(tmp_path: Path) -> None:
    found = made(synthesis(rated_task(tmp_path / "task")))
    before = measure(found, "Firmness of labels", "entropy, before refinement")
    after = measure(found, "Firmness of labels", "entropy, after refinement")
    assert before.value == pytest.approx(LN2) and before.interval
    assert (after.value, before.n) == (0, {"users": 6, "questions": 5, "labels": 30})
    assert measure(found, "Firmness of labels", "orders disagree (flips), before refinement").value == 100
    flips = measure(found, "Firmness of labels", "orders disagree (flips), after refinement")
    assert flips.value == 0
    assert flips.interval and flips.interval[1] > 20  # six users: none seen is not none
    ways = [m.what for m in section(found, "Similarity of answers").measures if m.what.endswith("mean")]
    assert ways == [
        "in the task: mean", "as written: mean",
        "as written, plain: mean", "as written, plain, one model: mean",
        "as written, view: mean", "as written, view, one model: mean",
    ]  # fmt: skip
    counts = {m.what: m.value for m in section(found, "What there is").measures}
    assert counts["dropped at questions: near-duplicate"] == 3
    assert counts["stage questions, seeds"] == 2
    assert counts["stage responses, view"] == 20


def test_a_synthesis_without_a_task_yet_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = write_stages(tmp_path / "begun")
    found = made(folder)
    assert [s.title for s in found.sections] == TITLES[:4]
    (folder / ".synth" / "responses.jsonl").unlink()
    assert "no question has two answers" in section(made(folder), "Similarity of answers").notes[0]
    (folder / ".synth" / "questions.jsonl").unlink()
    with pytest.raises(UserError, match=r"no question in \.synth/ yet"):
        made(folder)


def test_shards_that_are_not_merged_and_a_line_being_written_are_no_trouble(tmp_path: Path) -> None:
    whole = synthesis(tmp_path / "whole" / "task")
    parts = synthesis(tmp_path / "parts" / "task")
    merged = parts / ".synth" / "labels.jsonl"
    lines = merged.read_bytes().splitlines(keepends=True)
    for n, file in enumerate(("labels.1-of-2.jsonl", "labels.2-of-2.jsonl.part")):
        merged.with_name(file).write_bytes(b"".join(lines[n::2]) + b'{"user_id": "u')
    merged.unlink()
    assert as_json(made(parts)) == as_json(made(whole))


def test_a_wrong_line_of_a_stage_is_named(tmp_path: Path) -> None:
    folder = synthesis(tmp_path / "task")
    edit(folder / ".synth" / "labels.jsonl", 4, outcome="c")
    with pytest.raises(UserError, match=r"labels\.jsonl, line 4, field 'outcome': input should be 'a', 'b'"):
        made(folder)


def test_labels_asked_once_have_no_entropy_and_the_report_says_so(tmp_path: Path) -> None:
    found = made(write_stages(tmp_path / "task", label_rows(sure, repeats=1)))
    firmness = section(found, "Firmness of labels")
    assert "no pair was asked about twice" in firmness.notes[0]
    assert [m.what for m in firmness.measures] == [
        "orders disagree (flips), labels", "verdicts for the answer shown first, labels",
        "settled for the longer answer, labels",
    ]  # fmt: skip


def test_with_one_order_nothing_is_said_of_flips(tmp_path: Path) -> None:
    found = made(write_stages(tmp_path / "task", label_rows(lambda *_: ("a", None))))
    firmness = section(found, "Firmness of labels")
    assert [m.what for m in firmness.measures if "flips" in m.what] == []
    assert measure(found, "Firmness of labels", "verdicts for the answer shown first, labels").value == 100


def test_near_duplicates_are_shown(tmp_path: Path) -> None:
    folder = write_stages(tmp_path / "task")
    prompts = ["How do I cook rice?", "how do I  cook rice?", "Why is the sky blue?"]
    rows = [{"question_id": f"q{n}", "prompt": p, "seed": True} for n, p in enumerate(prompts)]
    write_rows(folder / ".synth" / "questions.jsonl", rows)
    found = made(folder)
    near = measure(found, "Near-duplicates", "questions near another")
    assert near.value == pytest.approx(200 / 3)
    assert near.n == {"questions": 3}
    assert section(found, "Near-duplicates").notes == [
        "1.00: “How do I cook rice?” and “how do I cook rice?”"
    ]


def test_what_a_model_wrote_is_no_markup(tmp_path: Path) -> None:
    folder = write_stages(tmp_path / "task")
    prompts = ["Why <img src=x> [so](http://there) | or not?"] * 2
    rows = [{"question_id": f"q{n}", "prompt": p, "seed": True} for n, p in enumerate(prompts)]
    write_rows(folder / ".synth" / "questions.jsonl", rows)
    text = markdown(made(folder))
    assert r"“Why &lt;img src=x&gt; \[so\](http://there) \| or not?”" in text
    assert "<img" not in text


# --- the verb ---


def test_it_prints_markdown_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = rated_task(tmp_path / "task")
    assert main(["synth-report", str(folder)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Report on task\n")
    assert "| figure | value | 95% interval | n |" in text
    assert "![" not in text
    assert main(["synth-report", str(folder), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["format"] == "fspo-bench/synth-report/1"
    assert [s["title"] for s in value["sections"]] == TITLES
    assert not list(tmp_path.glob("*.md"))


def test_out_holds_report_and_figures_and_the_same_bytes_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = synthesis(rated_task(tmp_path / "task", users=30, questions=40))
    contents = []
    for _ in range(2):
        assert main(["synth-report", str(folder), "--out", str(tmp_path / "out")]) == 0
        contents.append({file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    figures = ["similarity", "entropy", "disagreement", "observer"]
    expected = {"report.md", "report.json", *(f"{n}.{kind}" for n in figures for kind in ("svg", "png"))}
    assert contents[0].keys() == expected
    text = contents[0]["report.md"].decode()
    for name in figures:
        assert f"]({name}.svg)" in text


def test_what_is_wrong_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rated_task(tmp_path / "task")

    def refused(*argv: object) -> str:
        assert main(["synth-report", *map(str, argv)]) == 2
        err = capsys.readouterr().err.splitlines()[-1]
        assert err.startswith("fspo-bench: ")
        return err

    assert "did you mean 'roleplay'?" in refused("roleplya")
    assert "unknown task" in refused(tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot write into" in refused(folder, "--out", tmp_path / "file" / "out")
    edit(folder / "preferences.jsonl", 2, user_id="nobody")
    assert "preferences.jsonl, line 2, field 'user_id': no such user 'nobody'" in refused(folder)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'fspo-bench[plots]'" in refused(folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
