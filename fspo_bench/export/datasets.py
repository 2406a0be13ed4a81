"""Tasks as a data set that `datasets.load_dataset(DIR, "roleplay")` reads, from a folder or from the Hub.

For a task there are these configurations, each a parquet file a split:

    TASK            preferences: one pair a user and question, drawn as training draws them. Splits: `train`,
                    and of test users `shots` (about training questions) and `test`
    TASK_users      users with their traits; splits are the task's own
    TASK_questions  prompts; likewise
    TASK_answers    written answers with their loadings, where labels follow from them: with the traits they
                    give every label, of which `TASK` holds a draw
    TASK_episodes   the test episodes of a budget: a user's shots and held-out pairs
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fspo_bench.data.hub import EXTRA
from fspo_bench.data.tasks import EVALUATION_SEED, Preference, Split, Task, User
from fspo_bench.errors import UserError
from fspo_bench.export.dataset_card import dataset_card
from fspo_bench.presets import Preset
from fspo_bench.progress import track
from fspo_bench.store import building, digest

Rows = list[dict[str, Any]]


def export_datasets(tasks: Sequence[Task], budget: Preset, out: Path) -> list[Path]:
    """Write every task's configurations, with the test episodes of a budget, and one card for all of them.

    Raises:
        UserError: `out` is there already, or pyarrow is missing.
    """
    if out.exists():
        raise UserError(f"export-tasks: '{out}' is there already; give another folder")
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError(f"export-tasks: parquet files need pyarrow; {EXTRA}") from None
    sizes: dict[str, dict[str, int]] = {}
    with building(out) as scratch:
        for task in track(tasks, "tasks"):
            for name, splits in configurations(task, budget).items():
                _write(scratch / name, splits)
                sizes[name] = {split: len(rows) for split, rows in splits.items()}
        scratch.joinpath("README.md").write_text(dataset_card(tasks, sizes, budget), encoding="utf-8")
    return [out]


def _write(folder: Path, splits: Mapping[str, Rows]) -> None:
    """A file a split, all of one schema, whatever is null in one of them."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    schema = pa.Table.from_pylist([row for rows in splits.values() for row in rows]).schema
    for split, rows in splits.items():
        table = pa.Table.from_pylist(rows, schema=schema)
        parquet.write_table(table, folder / f"{split}.parquet", compression="zstd")


def configurations(task: Task, budget: Preset) -> dict[str, dict[str, Rows]]:
    """By configuration and split, the rows."""
    found = {
        task.name: _preferences(task),
        f"{task.name}_users": _by_split((u.split, u.model_dump()) for u in task.users.values()),
        f"{task.name}_questions": _by_split((q.split, q.model_dump()) for q in task.questions.values()),
        f"{task.name}_episodes": {"test": _episodes(task, budget)},
    }
    if task.structured:
        found[f"{task.name}_answers"] = _by_split(
            (task.questions[a.question_id].split, a.model_dump()) for a in task.answers.values()
        )
    return found


def _by_split(items: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Rows]:
    rows: dict[str, Rows] = defaultdict(list)
    for split, row in items:
        rows[split].append({k: v for k, v in row.items() if k != "split" and v != {}})
    return dict(rows)


def _preferences(task: Task) -> dict[str, Rows]:
    """A draw of each user's labels about each question."""
    parts: dict[str, tuple[Split, Split]] = {
        "train": ("train", "train"),
        "shots": ("test", "train"),
        "test": ("test", "test"),
    }
    found = {
        split: [row for user in task.users_of(users) for row in _of_user(task, user, questions)]
        for split, (users, questions) in parts.items()
    }
    return {split: rows for split, rows in found.items() if rows}


def _of_user(task: Task, user: User, questions: Split) -> Rows:
    rng = random.Random(digest(["export", task.name, task.spec.version, user.user_id, questions]))
    (drawn,) = task.draw(user, questions, rng, len(task.questions) + len(task.rows))
    return [{"user_id": user.user_id, **_pair(p)} for p in sorted(drawn, key=lambda p: p.question_id)]


def _pair(preference: Preference) -> dict[str, str]:
    p = preference
    return {"question_id": p.question_id, "prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected}


def _episodes(task: Task, budget: Preset) -> Rows:
    drawn = task.test_episodes(budget.shots, budget.test_pairs, budget.test_users, EVALUATION_SEED)
    return [
        {"user_id": e.user_id, "round": e.round, "shots": list(map(_pair, e.shots)),
         "queries": list(map(_pair, e.queries))}
        for e in drawn
    ]  # fmt: skip
