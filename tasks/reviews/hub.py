"""The paper's own Reviews data: four tastes that are trained on, four joined ones that are only tested."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fspo_bench.data.paper_data import SCORED, paper_rows, scored
from fspo_bench.data.tasks import Rows

HUB_ID = "Asap7772/steered_reviews_full_autolabel_gpt4o_pref"


@dataclass(frozen=True)
class Options:
    """There is nothing to choose."""


def load(data_dir: Path | None, options: Options) -> Rows:
    """Users, questions and preferences, from a folder with the published train and test files or the Hub."""
    return paper_rows(
        HUB_ID, data_dir, SCORED, scored, lambda user, stands_in: "test" if "+" in user else "seen"
    )
