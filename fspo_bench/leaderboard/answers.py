"""The answers behind a board, in the script files that its page loads.

data/BOARD/users.js     users with descriptions and shots, questions with the reference's answers, the runs
data/BOARD/RUN.js       what one run answered, and what the judge said

A page opened from a disk may not fetch, so each file hands its data over in a call: `fspoBench(NAME, DATA)`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from fspo_bench.data.tasks import EVALUATION_SEED, Preference, Task
from fspo_bench.evaluate.metrics import Answered
from fspo_bench.judge.verdicts import Verdict
from fspo_bench.leaderboard.boards import Board
from fspo_bench.leaderboard.records import Submitted

User = tuple[str, int]  # id, round


def answer_files(name: str, board: Board, task: Task) -> dict[str, str]:
    """The content of a board's files, by the files' names without `.js`; `name` is the board's folder."""
    runs = [run for line in board.lines for run in line.runs]
    files: dict[str, Any] = {"users": _users(board, task, runs[0])}
    files |= {run.record.id: _answers(run) for run in runs}
    return {file: f"fspoBench({_json(f'{name}/{file}')},{_json(data)});\n" for file, data in files.items()}


def _json(value: Any) -> str:
    """JSON in ASCII that ends no script element, wherever it stands."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _users(board: Board, task: Task, run: Submitted) -> dict[str, Any]:
    """What is the same for all runs of a board."""
    asked: dict[User, list[str]] = defaultdict(list)
    for a in run.answered:
        asked[a.user_id, a.round].append(a.question_id)
    shots = _shots(board, task)
    references = {a.question_id: a.reference for a in run.answered}
    return {
        "users": [
            {
                "name": user,
                "round": round_,
                "description": task.users[user].description,
                "shots": [
                    {"prompt": s.prompt, "chosen": s.chosen, "rejected": s.rejected}
                    for s in shots[user, round_]
                ],
                "asked": sorted(questions),
            }
            for (user, round_), questions in sorted(asked.items())
        ],
        "questions": {
            question: {"prompt": task.questions[question].prompt, "reference": reference}
            for question, reference in references.items()
        },
        "runs": [
            {
                "id": run.record.id,
                "label": f"{line.label}, seed {run.record.seed}" if len(line.runs) > 1 else line.label,
                "line": place,
                "shots": run.record.spec["preset"]["shots"],
            }
            for place, line in enumerate(board.lines)
            for run in line.runs
        ],
    }


def _shots(board: Board, task: Task) -> dict[User, tuple[Preference, ...]]:
    """The most shots that a run of the board shows; a run with fewer shows the first of them."""
    presets = [run.record.spec["preset"] for line in board.lines for run in line.runs]
    most = max(presets, key=lambda preset: preset["shots"])
    episodes = task.test_episodes(most["shots"], most["test_pairs"], most["test_users"], EVALUATION_SEED)
    return {(e.user_id, e.round): e.shots for e in episodes}


def _answers(run: Submitted) -> dict[str, dict[str, Any]]:
    """Rows by user and round, then by question."""
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for a in run.answered:
        rows[f"{a.user_id}/{a.round}"][a.question_id] = _row(a)
    return rows


def _row(a: Answered) -> dict[str, Any]:
    return {
        "output": a.output,
        "note": a.note,
        "wrong_user_output": a.wrong_user_output,
        "verdicts": {compared: _verdict(v) for compared, v in a.verdicts.items()},
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "p": None if verdict.p is None else round(verdict.p, 3),
        "orders": [None if p is None else round(p, 3) for p in verdict.orders],
        "consistent": verdict.consistent,
        "reason": verdict.reason,
    }
