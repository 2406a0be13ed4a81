"""Predictors that know no user: they find what everybody shares, and nothing of what is personal."""

from pathlib import Path

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Preference
from fspo_bench.evaluate.population import longest, surface_model
from tests.conftest import write_rows
from tests.made import rated_task, rows_of


def test_longest() -> None:
    pairs = [
        Preference("q", "?", "long one", "short"),
        Preference("q", "?", "a", "bb"),
        Preference("q", "?", "x", "y"),
    ]
    assert longest(pairs) == [1.0, 0.0, 0.5]


def test_the_surface_model_learns_what_all_train_users_share(tmp_path: Path) -> None:
    folder = rated_task(tmp_path / "rated")
    file = folder / "preferences.jsonl"
    rows = rows_of(file)
    write_rows(file, [{**r, "chosen": f"Is it {n}? Perhaps so?", "rejected": f"It is {n}, surely so."}
                      for n, r in enumerate(rows)])  # fmt: skip
    task = load_task(folder)
    held_out = [
        Preference("q", "?", "Do you? Well?", "You do."),
        Preference("q", "?", "You do.", "Do you? Well?"),
    ]
    assert surface_model(task, held_out) == [1.0, 0.0]


def test_equal_texts_are_half_right(tmp_path: Path) -> None:
    task = load_task(rated_task(tmp_path / "rated"))
    assert surface_model(task, [Preference("q", "?", "same", "same")]) == [0.5]
