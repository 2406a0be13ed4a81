"""What the report rests on: a task's preferences and the stage files of its synthesis, each read once.

Rows are streamed into columns of numbers; of the texts a sample is kept, drawn by a fixed seed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fspo_bench.data.sources import open_task, source_of
from fspo_bench.data.task_files import count_preferences, load_head, preferences_of
from fspo_bench.data.tasks import PreferenceRow, Task
from fspo_bench.errors import UserError
from fspo_bench.progress import track
from fspo_bench.synth.columns import (
    Labels,
    Preferences,
    SampledTexts,
    Table,
    read_columns,
    read_labels,
    sampled,
    text_hash,
)
from fspo_bench.synth.recorded import (
    FOLDER,
    DroppedRow,
    LabelRow,
    PersonaRow,
    QuestionRow,
    RefinementRow,
    ResponseRow,
    stage_rows,
    stage_size,
)

USERS = 2000  # whose labels are compared
QUESTIONS = 400  # whose answers are embedded
ANSWERS = 8  # of a question; of each way and model, WRITTEN
WRITTEN = 4
PROMPTS = 2000  # questions compared with one another
SPLITS = {"seen": "train and test", "judge": "judge only"}
TASK, AS_WRITTEN = "in the task", "as written"
Lots = Mapping[str, Sequence[Sequence[str]]]
"""Texts by question, in lots within which they are compared."""


@dataclass
class Evidence:
    """What there is; parts that are not are None or empty."""

    name: str
    task: Task | None = None
    """Without its rows of preferences, which are in the columns."""
    preferences: Preferences | None = None
    table: Table | None = None
    labels: Labels | None = None
    ways: dict[str, Lots] = field(default_factory=dict)
    """Sampled answers by how they were written."""
    prompts: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By stage and reason."""


def gather(folder: Path, source: str | None, data_dir: Path | None) -> Evidence:
    """Read a task's folder, and what a synthesis has recorded in it.

    Raises:
        UserError: naming the file, line and field that are wrong, or that there is nothing to read.
    """
    found, stages = Evidence(folder.name), folder / FOLDER
    if (folder / "task.yaml").is_file():
        _read_task(found, folder, source, data_dir)
    if stages.is_dir():
        _read_stages(found, stages)
    if not found.prompts:
        raise UserError(f"'{folder}' has no task.yaml and no question in {FOLDER}/ yet; give a task's folder")
    return found


def _read_task(found: Evidence, folder: Path, source: str | None, data_dir: Path | None) -> None:
    rows: Iterable[PreferenceRow]
    if source_of(folder, source, data_dir) == "bundled":
        task = load_head(folder)
        rows = () if task.structured else track(preferences_of(task), "preferences", count_preferences(task))
    else:
        task = open_task(folder, source, data_dir)
        rows = task.rows
    found.task, found.prompts = task, [q.prompt for q in task.questions.values()]
    asked = set(sampled(list(task.questions), QUESTIONS, "answers"))
    texts = SampledTexts(ANSWERS)
    for answer in task.answers.values():
        if answer.question_id in asked and not answer.weak:
            texts.add(answer.question_id, answer.text, text_hash(answer.text))
    if task.structured:
        found.table = Table.of_traits(task, USERS)
    else:
        found.preferences = read_columns(task, rows, asked, texts)
        found.table = Table.of_preferences(task, found.preferences, USERS)
    found.ways[TASK] = {str(question): [lot] for question, lot in texts.texts().items()}
    for what, rows_of in (("users", task.users), ("questions", task.questions)):
        splits = Counter(row.split for row in rows_of.values())
        found.counts |= {f"{what}, {SPLITS.get(split, split)}": n for split, n in sorted(splits.items())}
    if found.preferences:
        found.counts["preferences"] = len(found.preferences.user)
    else:
        found.counts |= {
            "answers, views": sum(not a.weak for a in task.answers.values()),
            "answers, weak": sum(a.weak for a in task.answers.values()),
        }


def _read_stages(found: Evidence, stages: Path) -> None:
    """What the stages have so far; the counts are of rows."""
    questions = list(stage_rows(stages, "questions", QuestionRow))
    found.prompts = found.prompts or [q.prompt for q in questions]
    seeds = sum(q.seed for q in questions)
    found.counts |= {"stage questions, seeds": seeds, "stage questions, expanded": len(questions) - seeds}
    found.counts["stage personas"] = sum(1 for _ in stage_rows(stages, "personas", PersonaRow))
    lengths = _read_responses(found, stages, [q.question_id for q in questions])
    askings = track(stage_rows(stages, "labels", LabelRow), "labels", stage_size(stages, "labels"))
    labels = read_labels(askings, lengths)
    if len(labels.user):
        found.labels = labels
    found.counts["stage labels, askings"] = len(labels.user)
    refined = Counter(r.user_id for r in stage_rows(stages, "refinements", RefinementRow))
    found.counts |= {"stage refinements": refined.total(), "personas refined": len(refined)}
    for row in stage_rows(stages, "dropped", DroppedRow):
        found.dropped[row.stage, row.why.partition(" (")[0]] += 1  # in brackets: of this one alone


def _read_responses(found: Evidence, stages: Path, questions: Sequence[str]) -> dict[str, int]:
    """Characters of each answer, by id."""
    lengths: dict[str, int] = {}
    asked = set(sampled(questions, QUESTIONS, "answers"))
    texts = SampledTexts(WRITTEN)
    written: Counter[str] = Counter()
    for row in stage_rows(stages, "responses", ResponseRow):
        lengths[row.answer_id] = len(row.text)
        written[row.how] += 1
        if row.question_id in asked:
            texts.add((row.question_id, row.how, row.model), row.text, text_hash(row.text))
    found.counts |= {f"stage responses, {how}": n for how, n in sorted(written.items())}
    if texts.kept:
        found.ways |= _ways(texts.texts())
    return lengths


def _ways(texts: Mapping[Hashable, Sequence[str]]) -> dict[str, Lots]:
    """All that was written about a question, then each way alone, then within each way each model alone."""
    hows, models = ({key[n] for key in texts if isinstance(key, tuple)} for n in (1, 2))
    ways: dict[str, dict[str, list[list[str]]]] = defaultdict(lambda: defaultdict(list))
    for key, lot in sorted(texts.items(), key=lambda item: str(item[0])):
        assert isinstance(key, tuple)
        question, how, _ = key
        for way in [AS_WRITTEN, *([f"{AS_WRITTEN}, {how}"] if len(hows) > 1 else [])]:
            together = ways[way][question] or [[]]
            ways[way][question] = [[*together[0], *lot]]
        if len(models) > 1:
            ways[f"{AS_WRITTEN}, {how}, one model"][question].append(list(lot))
    return {way: ways[way] for way in sorted(ways)}
