"""The paper's own ELIX-hard data: 550 people whose knowledge differs by field, split as published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fspo_bench.data.paper_data import SCORED, as_published, paper_rows, scored
from fspo_bench.data.tasks import Rows

HUB_ID = "Asap7772/elix_multexpert_preferences_gpt4o_pref"


@dataclass(frozen=True)
class Options:
    """There is nothing to choose."""


def load(data_dir: Path | None, options: Options) -> Rows:
    """Users, questions and preferences, from a folder with the published train and test files or the Hub."""
    return paper_rows(HUB_ID, data_dir, SCORED, scored, as_published)
