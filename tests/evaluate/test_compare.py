"""Paired differences of runs: closed forms, and runs that cannot be compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.cli import main
from fspo_bench.errors import UserError
from fspo_bench.evaluate.compare import Finished, Place, comparison, difference, read_run
from fspo_bench.evaluate.report import comparison_table
from tests.leaderboard.made_boards import Made, a_task, entries
from tests.made import a_record

SPEC = {"task": {"name": "t", "hash": "h"}, "judge": "j", "model": "m"}


def finished(wins: dict[str, list[int]], **spec: Any) -> Finished:
    verdicts: dict[Place, float | None] = {
        (user, 0, f"q{n}"): float(w) for user, row in wins.items() for n, w in enumerate(row)
    }
    return Finished(a_record(spec={**SPEC, **spec}), verdicts)


def test_the_difference_is_paired_and_clustered_by_user() -> None:
    a = finished({"u": [1, 1], "v": [1, 1], "w": [1, 0]})
    b = finished({"u": [0, 0], "v": [1, 0], "w": [1, 0]})
    e = difference(a, b)
    assert e.value == pytest.approx(50.0)
    assert (e.n_users, e.n_questions, e.n) == (3, 2, 6)
    # users' sums of deviations are 1, 0, -1: se = sqrt(3/2 * 2) / 6, t(2) = 4.3027
    assert e.high - e.value == pytest.approx(min(50, 100 * 4.3027 * 3**0.5 / 6), abs=0.01)
    back = difference(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((-e.value, -e.high, -e.low))


def test_a_run_against_itself_is_nothing() -> None:
    a = finished({"u": [1, 0], "v": [0, 1]})
    assert (difference(a, a).value, difference(a, a).low) == (0, 0)


@pytest.mark.parametrize("part", ["task", "judge", "model"])
def test_runs_of_other_tasks_judges_and_models_are_refused(part: str) -> None:
    a, b = finished({"u": [1]}), finished({"u": [1]}, **{part: "other"})
    with pytest.raises(UserError, match=f"differ in {part}"):
        difference(a, b)


def test_other_users_or_questions_are_refused() -> None:
    with pytest.raises(UserError, match="asked other users or questions"):
        difference(finished({"u": [1, 1]}), finished({"u": [1]}))


def write(folder: Path, p: float | None = 0.9, done: bool = True) -> Path:
    folder.mkdir(parents=True)
    place = {"user_id": "u", "round": 0, "question_id": "q"}
    row = {**place, "compared": "reference", "orders": [p], "a_first": [], "reason": ""}
    answer = {**place, "output": "a", "reference": "b", "wrong_user_output": None, "note": ""}
    (folder / "outputs.jsonl").write_text(json.dumps(answer) + "\n")
    (folder / "verdicts.jsonl").write_text("" if p is None else json.dumps(row) + "\n")
    if done:
        (folder / "result.json").write_text(a_record(spec=SPEC).model_dump_json())
    return folder


def test_a_run_is_found_by_folder_or_id(tmp_path: Path) -> None:
    folder = write(tmp_path / "t" / "fspo" / "0123456789")
    by_id, by_folder = read_run("01234", tmp_path), read_run(str(folder), tmp_path / "nowhere")
    assert by_id == by_folder
    assert by_id.wins == {("u", 0, "q"): 1.0}


def test_what_is_no_finished_judged_run_is_named(tmp_path: Path) -> None:
    write(tmp_path / "t" / "a" / "aa11")
    write(tmp_path / "t" / "a" / "aa22")
    unfinished, unjudged = (
        write(tmp_path / "t" / "b" / "bb", done=False),
        write(tmp_path / "t" / "c" / "cc", None),
    )
    for name, says in [("zz", "no such run"), ("aa", "2 runs begin so"), (str(unfinished), "not finished"),
                       (str(unjudged), "holds no verdicts")]:  # fmt: skip
        with pytest.raises(UserError, match=says):
            read_run(name, tmp_path)
    assert main(["compare", "aa11"]) == 2


def test_the_table_has_ranks_p_values_interval_and_counts() -> None:
    strong = finished({f"u{n}": [1, 1] for n in range(8)})
    weak = finished({f"u{n}": [0, n % 2] for n in range(8)})
    found = comparison(strong, [weak, strong])
    (apart, same) = found.differences
    assert (apart.p, apart.p_holm) == (pytest.approx(2 / 2**8, abs=1e-5), pytest.approx(4 / 2**8, abs=1e-5))
    assert (same.p, same.difference.value, same.detectable) == (1.0, 0.0, 0.0)
    assert [s.ranks for s in found.standings] == [(1, 2), (3, 3), (1, 2)]
    head, *lines = comparison_table(found).splitlines()
    assert head.split() == ["win", "rate", "vs", "base", "at", "equal", "length", "ranks"]
    assert "100.0 [100.0, 100.0]  -" in lines[0] and lines[0].endswith(" 1-2")
    assert lines[2].split()[-1] == "3"
    assert "Holm 0.016, detectable" in lines[4]
    assert lines[4].endswith("(8 users, 2 questions, 16 answers)")
    assert "clustered by user" in lines[-4]
    assert lines[-1].startswith("no rates at equal length: no run of verbose")
    few = comparison(finished({"u": [1], "v": [1]}), [finished({"u": [0], "v": [0]})])
    assert "2 users: no p can be below 0.5" in comparison_table(few).splitlines()[-1]


def test_what_one_run_has_no_verdict_for_is_left_out_of_both() -> None:
    a, b = finished({"u": [1, 1], "v": [1, 1]}), finished({"u": [0, 0], "v": [0, 0]})
    b.wins["v", 0, "q1"] = None
    e = difference(a, b)
    assert (e.value, e.n) == (100, 3)
    b.wins.update(dict.fromkeys(b.wins))
    with pytest.raises(UserError, match="no verdict in common"):
        difference(a, b)


def test_one_user_leaves_no_interval() -> None:
    (only,) = comparison(finished({"u": [1, 1]}), [finished({"u": [0, 1]})]).differences
    assert (only.difference.value, only.difference.ci95, only.detectable) == (50.0, None, None)


def test_with_both_length_controls_rates_at_equal_length_stand_beside() -> None:
    def run(method: str, longer: int, wins: int) -> Finished:
        found = finished({f"u{n}": [wins, n % 2, 1] for n in range(8)})
        found = replace(found, lengths={place: (100 + longer + n, 100) for n, place in enumerate(found.wins)})
        return replace(found, record=a_record(spec=SPEC, method=method))

    runs = [run("fspo", 5, 1), run("ipo", 0, 0), run("verbose", 60, 1), run("concise", -60, 0)]
    found = comparison(runs[0], runs[1:])
    assert found.no_length_control == ""
    by_run = {s.run: s.length_controlled for s in found.standings}
    assert by_run["verbose"] is None and by_run["concise"] is None, "they are the yardsticks"
    fspo, ipo = by_run["fspo"], by_run["ipo"]
    assert fspo and ipo
    assert fspo[0] > ipo[0]
    assert fspo[1] <= fspo[0] <= fspo[2]


def test_runs_of_one_label_keep_their_own_rates_at_equal_length(tmp_path: Path) -> None:
    runs = [
        Made("verbose", 0.5, personal=False, words=9),
        Made("concise", 0.4, personal=False),
        Made("fspo", 0.95),
        Made("fspo", 0.1, preset={"shots": 2}),
    ]
    verbose, *others = (run.finished for run in entries(a_task(tmp_path / "made"), runs))
    better, worse = comparison(verbose, others).standings[2:]
    assert better.run == worse.run == "fspo"
    assert better.length_controlled and worse.length_controlled
    assert better.length_controlled[0] > worse.length_controlled[0] + 20
