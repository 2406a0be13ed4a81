"""Tasks as lm-eval reads them: held-out pairs of test users to be ranked, behind their shots and without.

    preference_ranking.py          what lm-eval runs
    fspo_TASK.yaml                 the group: the two tasks below
    fspo_TASK_shots.yaml, .jsonl   behind the user's shots
    fspo_TASK_no_shots.yaml, .jsonl

The pairs and their texts are those of preference accuracy in a run of `few_shot` (or `base`) with the same
preset and shots.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from fspo_bench.data.tasks import EVALUATION_SEED, Episode, Task
from fspo_bench.lm.prompts import Context, Seen, chat_messages, plain_text, shots_context
from fspo_bench.presets import Preset
from fspo_bench.store import digest, write_atomic

RANKING = "preference_ranking.py"
METRICS = ("acc", "acc_norm")


def export_lm_eval(tasks: Sequence[Task], preset: Preset, out: Path) -> list[Path]:
    """Write the files of each task into a folder; returns them."""
    files = [_write(out / RANKING, Path(__file__).with_name(RANKING).read_text(encoding="utf-8"))]
    for task in tasks:
        episodes = task.test_episodes(preset.shots, preset.test_pairs, preset.test_users, EVALUATION_SEED)
        name = f"fspo_{task.name}"
        parts = {f"{name}_shots": True, f"{name}_no_shots": False}
        for part, with_shots in parts.items():
            rows = _rows(task, episodes, preset.show_rejected if with_shots else None)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            files.append(_write(out / f"{part}.jsonl", lines))
            files.append(_write(out / f"{part}.yaml", _task_yaml(part, task, preset)))
        group = {"group": name, "task": list(parts), "metadata": {"version": task.spec.version}}
        files.append(_write(out / f"{name}.yaml", yaml.safe_dump(group, sort_keys=False)))
    return [*files, _write(out / "README.md", _card(tasks, preset))]


def _rows(task: Task, episodes: Sequence[Episode], show_rejected: bool | None) -> Iterator[dict[str, Any]]:
    """A row a pair; without shots where `show_rejected` is None."""
    for e in episodes:
        seen = Seen(shots=e.shots, show_rejected=bool(show_rejected))
        context = Context() if show_rejected is None else shots_context(seen)
        for pair in e.queries:
            texts = (task.spec.instruction, context, pair.prompt)
            # a tie goes to the first choice, so the right one takes either place
            label = random.Random(
                digest(["label", task.name, e.user_id, e.round, pair.question_id])
            ).randrange(2)
            yield {
                "user_id": e.user_id,
                "round": e.round,
                "question_id": pair.question_id,
                "messages": chat_messages(*texts),
                "prompt": plain_text(*texts),
                "choices": [pair.rejected, pair.chosen] if label else [pair.chosen, pair.rejected],
                "label": label,
            }


def _task_yaml(name: str, task: Task, preset: Preset) -> str:
    config = {
        "task": name,
        "tag": "fspo",
        "dataset_path": f"{name}.jsonl",
        "output_type": "multiple_choice",
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in METRICS],
        "metadata": {"version": task.spec.version, "preset": preset.name, "task_hash": task.hash},
    }
    ours = f"class: !function {Path(RANKING).stem}.PreferenceRanking\n"  # a tag that only lm-eval knows
    return ours + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _card(tasks: Sequence[Task], preset: Preset) -> str:
    """README.md: what this is, how to run it, whose texts they are."""
    names = ",".join(f"fspo_{task.name}" for task in tasks)
    shown = "both sides of each" if preset.show_rejected else "the preferred answer of each"
    licences = "\n".join(
        f"| `{t.name}` | {t.spec.version} | {t.spec.license} | {t.spec.summary} |" for t in tasks
    )
    return f"""# Preference ranking for lm-eval

Written by `fspo-bench export-tasks`, preset `{preset.name}`: {preset.shots} shots a user, {shown}.

    lm_eval run --model hf --model_args pretrained=MODEL,dtype=float32 --apply_chat_template \\
        --include_path THIS_FOLDER --tasks {names}

Leave `--apply_chat_template` out for a model without a chat template. The folder may lie anywhere.
`acc` ranks by the summed log-probability of the answers, `acc_norm` by that over their characters; a coin
has 0.5.

| task | version | licence | |
|---|---|---|---|
{licences}
"""


def _write(file: Path, text: str) -> Path:
    write_atomic(file, text)
    return file
