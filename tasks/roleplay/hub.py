"""The paper's own Roleplay data: 1,500 personas, users split as published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fspo_bench.data.paper_data import ROLEPLAY, as_published, paper_rows, roleplayed
from fspo_bench.data.tasks import Rows

HUB_ID = "sher222/persona-iterative-responses"


@dataclass(frozen=True)
class Options:
    """There is nothing to choose."""


def load(data_dir: Path | None, options: Options) -> Rows:
    """Users, questions and preferences, from a folder with the published train and test files or the Hub."""
    return paper_rows(HUB_ID, data_dir, ROLEPLAY, roleplayed, as_published)
