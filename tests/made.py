"""Things that several test files make: a task of given preferences, edits of its rows, a run's record."""

import json
from pathlib import Path
from typing import Any

from fspo_bench.evaluate.results import JudgeRecord, Metric, Metrics, Record
from tests.conftest import write_rows

DROP = object()


def rated_task(folder: Path, users: int = 12, questions: int = 12) -> Path:
    """An unstructured task: train users rate train questions, test users rate train and test ones."""
    splits = ["train", "test", "judge"]
    folder.mkdir(parents=True)
    folder.joinpath("task.yaml").write_text("version: 1\nsummary: A rated task.\nlicense: CC0-1.0\n")
    everyone = [{"user_id": f"u{n}", "split": splits[n % 3], "description": f"d{n}"} for n in range(users)]
    asked = [
        {"question_id": f"q{n}", "split": splits[n % 3], "prompt": f"Thing {n}?"} for n in range(questions)
    ]
    seen = {"train": ["train"], "test": ["train", "test"], "judge": []}
    write_rows(folder / "users.jsonl", everyone)
    write_rows(folder / "questions.jsonl", asked)
    write_rows(
        folder / "preferences.jsonl",
        [
            {"user_id": u["user_id"], "question_id": q["question_id"],
             "chosen": f"yes {q['question_id']} {n % 2}", "rejected": f"no {q['question_id']}"}
            for n, u in enumerate(everyone) for q in asked if q["split"] in seen[u["split"]]
        ],
    )  # fmt: skip
    return folder


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def edit(file: Path, line: int, **changes: Any) -> None:
    """Change or DROP keys of one line (counted from 1, as in the errors)."""
    rows = rows_of(file)
    row = {**rows[line - 1], **changes}
    rows[line - 1] = {key: value for key, value in row.items() if value is not DROP}
    write_rows(file, rows)


def metric(value: float, low: float, high: float) -> Metric:
    return Metric(value=value, ci95=(low, high), n_users=7, n_questions=5, n=35)


def a_record(**changes: Any) -> Record:
    """A complete, judged run; `changes` replace its fields or those of its metrics."""
    measured: dict[str, Any] = {
        "win_rate": metric(61.25, 55.04, 67.46),
        "win_rate_corrected": metric(66.1, 57.0, 75.2),
        "personal_gain": metric(4.2, -1.0, 9.4),
        "own_vs_wrong_user": metric(53.0, 49.0, 57.0),
        "preference_accuracy": metric(58.0, 51.0, 65.0),
        "longest_answer": metric(48.0, 40.0, 56.0),
        "population_model": metric(60.0, 51.0, 69.0),
        "groups": {},
        "length_ratio": 1.234,
        "copy_rate": 12.6,
    }
    measured |= {key: changes.pop(key) for key in list(changes) if key in measured}
    judge = JudgeRecord(
        name="offline", accuracy=81.25, ci95=(77.0, 85.5), accuracy_with_weak=93.5, accuracy_all=84.0,
        longest_answer=52.5, coin=50.0, key="k",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "task": "made", "method": "fspo", "model": "m", "preset": "tiny", "seed": 3, "complete": True,
        "judge": judge, "seconds": 41.6, "id": "0123456789", "notes": [], "stages": {"training": 40.0},
        "spec": {}, "environment": {}, "command": "fspo-bench run",
    }  # fmt: skip
    return Record(**{**fields, **changes}, metrics=Metrics(**measured))


def levels_task(folder: Path, by_kind: bool = False) -> Path:
    """A task on a scale: five users, each nearest to one of five answers; `by_kind`: other places by kind."""
    folder.mkdir(parents=True)
    folder.joinpath("task.yaml").write_text(
        "version: 1\nsummary: Levels.\nlicense: CC0-1.0\nmax_new_tokens: 6\nmin_margin: 1\n"
        "weak_share: 0.2\nweak_penalty: 5\nnearest: level\n"
    )
    places = [{"moon": n, "sea": 6 - n} if by_kind else {"level": n} for n in range(1, 6)]
    write_rows(
        folder / "users.jsonl",
        [
            {"user_id": f"u{n}", "split": "seen", "description": f"d{n}", "traits": place}
            for n, place in enumerate(places, 1)
        ],
    )
    splits = ["train", "train", "test", "judge"]
    asked = [
        {"question_id": f"q{n}", "split": splits[n % 4], "prompt": f"Why {n}?",
         "kind": ("moon", "sea")[n // 4 % 2]}
        for n in range(16)
    ]  # fmt: skip
    write_rows(folder / "questions.jsonl", asked)
    rows = []
    for q in asked:
        name = q["question_id"]
        rows += [
            {"answer_id": f"{name}/{k}", "question_id": name, "text": f"{name} at {k} {'word ' * k}",
             "loadings": {"level": k}}
            for k in range(1, 6)
        ]  # fmt: skip
        rows.append({"answer_id": f"{name}/weak", "question_id": name, "text": f"{name} hm", "loadings": {},
                     "weak": True})  # fmt: skip
    write_rows(folder / "answers.jsonl", rows)
    return folder
