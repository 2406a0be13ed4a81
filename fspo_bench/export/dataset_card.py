"""The card of exported tasks: YAML from which `datasets` and the Hub know configurations, then the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fspo_bench.data.tasks import Task
from fspo_bench.presets import Preset

HUB_LICENSES = ("apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "mit")
NAME = "fspo-bench-tasks"


def dataset_card(tasks: Sequence[Task], sizes: Mapping[str, Mapping[str, int]], budget: Preset) -> str:
    """README.md of a folder of parquet files, `CONFIGURATION/SPLIT.parquet`.

    Args:
        tasks: what is in it.
        sizes: rows by configuration and split.
        budget: whose test episodes they are.
    """
    template = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    splits = list(dict.fromkeys(split for of in sizes.values() for split in of))
    rows = [
        f"| `{name}` | " + " | ".join(f"{of[s]:,}" if s in of else "" for s in splits) + " |"
        for name, of in sizes.items()
    ]
    return template.format(
        metadata=_metadata(tasks, sizes), name=NAME, first=tasks[0].name, shots=budget.shots,
        preset=budget.name,
        splits=" | ".join(splits), rule="---|" * len(splits), rows="\n".join(rows),
        tasks="\n\n".join(map(_task, tasks)),
    )  # fmt: skip


def _metadata(tasks: Sequence[Task], sizes: Mapping[str, Mapping[str, int]]) -> str:
    from huggingface_hub import DatasetCardData

    licenses = {t.spec.license.lower() for t in tasks}
    return str(
        DatasetCardData(
            license=sorted({x if x in HUB_LICENSES else "other" for x in licenses}),
            language="en",
            pretty_name="Tasks of fspo-bench",
            tags=["preferences", "personalization", "fspo-bench"],
            configs=[
                {"config_name": name,
                 "data_files": [{"split": s, "path": f"{name}/{s}.parquet"} for s in splits]}
                for name, splits in sizes.items()
            ],
        ).to_yaml()
    )  # fmt: skip


def _task(task: Task) -> str:
    spec = task.spec
    lines = [f"### {task.name}", "", spec.summary, "", f"Version {spec.version}. Licence: {spec.license}."]
    if spec.source:
        lines[-1] += f" Source: {spec.source}."
    if spec.citation:
        lines += ["", spec.citation]
    return "\n".join(lines)
