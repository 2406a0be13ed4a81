"""The personalisation tax: what a trained policy gains or loses on general tasks of lm-eval.

The base model and the trained policy answer the same documents, without any user's shots. The change is
paired by document. Figures of a model are kept in the store, so that runs of one base share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from fspo_bench.errors import Unavailable, UserError, did_you_mean
from fspo_bench.evaluate.metrics import GAIN
from fspo_bench.evaluate.paired import holm, sign_flip_p
from fspo_bench.evaluate.results import Record
from fspo_bench.evaluate.stats import ByUser, clustered_mean
from fspo_bench.lm import soft_prefix
from fspo_bench.lm.policy import Policy, weights_fingerprint
from fspo_bench.progress import say
from fspo_bench.store import Store, digest
from fspo_bench.trained import ADAPTER, trained_folders

VERSION = 1  # raise when the same key can give another figure
BATCH = 8
FEWSHOT_SEED = 1234  # lm-eval's own
Scores = dict[str, list[float]]
"""A task's value for each document in turn, by metric."""


class Change(BaseModel):
    """The trained policy less the base model on one task by one metric: points of a hundred."""

    model_config = ConfigDict(extra="forbid")

    task: str
    metric: str
    documents: int
    base: float
    trained: float
    change: float
    ci95: tuple[float, float] | None
    """Of the change, paired by document; null for one document."""
    better: int
    """Documents on which the trained policy scores higher."""
    worse: int
    p: float
    """Of no change, by flipping the signs of documents' differences (for right and wrong: McNemar's test)."""
    p_holm: float
    """The same, adjusted for every line of the table (Holm)."""


class Tax(BaseModel):
    """`tax.json`."""

    model_config = ConfigDict(extra="forbid")

    run: str
    task: str
    method: str
    model: str
    lm_eval: str
    limit: int | None
    """Only so many documents a task."""
    chat_template: bool
    changes: list[Change]
    left_out: list[str]
    """Metrics that have no value between 0 and 1 for each document, so that nothing is paired."""


@dataclass(frozen=True)
class Asked:
    """What lm-eval is to do."""

    tasks: Sequence[str]
    folder: Path | None = None
    """With further task files."""
    limit: int | None = None
    chat_template: bool = False


def tax(run: Path, record: Record, asked: Asked, store: Store) -> Tax:
    """Run lm-eval on the base model and on what the run trained.

    Raises:
        UserError: a run without a policy that lm-eval can load, or an unknown task.
        Unavailable: data of a task that cannot be fetched.
    """
    preset = record.spec["preset"]
    policy = Policy.open(record.model, preset["lora_rank"], preset["dtype"], record.seed)
    if policy.fingerprint != record.spec["model"]:
        raise UserError(f"run '{run}': model '{record.model}' is not the one that it was trained from")
    trained = trained_folders(run, record, store)["policy"]
    if (trained / soft_prefix.FILE).is_file():
        raise UserError(f"run '{run}': its policy reads soft tokens of a user, which lm-eval cannot give it")
    loaded = _load(asked)
    arguments = {"pretrained": str(policy.folder), "tokenizer": str(policy.folder), "dtype": preset["dtype"]}
    own = {"peft" if (trained / ADAPTER).is_file() else "pretrained": str(trained)}
    models = {"base model": arguments, "trained policy": arguments | own}
    base, after = (
        _scores(name, of_model, policy.fingerprint, loaded, asked, store) for name, of_model in models.items()
    )
    return Tax(
        run=record.id,
        task=record.task,
        method=record.label,
        model=record.model,
        lm_eval=version("lm_eval"),
        limit=asked.limit,
        chat_template=asked.chat_template,
        changes=_changes(base, after, {name: list(tasks) for name, tasks in loaded.items()}),
        left_out=[f"{task}: {metric}" for task in base for metric, v in base[task].items() if not v],
    )


def _load(asked: Asked) -> dict[str, dict[str, Any]]:
    """lm-eval's tasks by the name that was asked for: one, or those of a group."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise UserError("tax needs lm-eval: pip install 'fspo-bench[lm-eval]'") from None
    folder = str(asked.folder) if asked.folder else None
    manager = TaskManager(include_path=folder, include_defaults=False)
    if not set(asked.tasks) <= set(manager.all_tasks):  # lm-eval's own take it half a minute to find
        say("looking through lm-eval's tasks")
        manager = TaskManager(include_path=folder)
    for name in asked.tasks:
        if name not in manager.all_tasks:
            near = did_you_mean(name, manager.all_tasks)
            if len(near) > 100:  # all of thousands
                near = "; `lm_eval ls tasks` lists them"
            raise UserError(f"--tasks: lm-eval has no task '{name}'{near}")
    try:
        loaded = {name: manager.load([name])["tasks"] for name in asked.tasks}
    except ConnectionError as error:
        raise Unavailable(f"the data of {', '.join(asked.tasks)} cannot be fetched ({error})") from None
    for task in (t for tasks in loaded.values() for t in tasks.values()):
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return loaded


def _scores(
    name: str, arguments: Mapping[str, str], fingerprint: str, loaded: Mapping[str, Mapping[str, Any]],
    asked: Asked, store: Store,
) -> dict[str, Scores]:  # fmt: skip
    """Every task's scores under one model, from the store where known."""
    tasks = {task_name: task for tasks in loaded.values() for task_name, task in tasks.items()}
    own = [weights_fingerprint(Path(arguments[key])) for key in ("pretrained", "peft") if key in arguments]
    shared = [VERSION, version("lm_eval"), fingerprint, own, asked.limit, asked.chat_template]
    keys = {task_name: digest(["lm-eval", shared, *_content(task)]) for task_name, task in tasks.items()}
    missing = {task_name: task for task_name, task in tasks.items() if not store.has(keys[task_name])}
    if missing:
        say(f"{name}: {', '.join(missing)}")
        for task_name, scores in _evaluate(arguments, missing, asked):
            store.put(keys[task_name], scores)
    return {task_name: dict(store.get(key) or {}) for task_name, key in keys.items()}


def _content(task: Any) -> tuple[str, list[str]]:
    """What decides a task's figures beside the model."""
    config = {k: v for k, v in task.dump_config().items() if k != "metadata"}
    return str(config), [str(doc) for doc in task.eval_docs]


def _evaluate(
    arguments: Mapping[str, str], tasks: Mapping[str, Any], asked: Asked
) -> Iterator[tuple[str, Scores]]:
    """Each task's scores; a metric that cannot be paired has none."""
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = lm_eval.evaluate(
        HFLM(**arguments, batch_size=BATCH, device=device), {"tasks": dict(tasks), "groups": {}},
        limit=asked.limit, apply_chat_template=asked.chat_template, bootstrap_iters=0,
    )  # fmt: skip
    for name, task in tasks.items():
        scores: Scores = {}
        for sample in sorted(found["samples"][name], key=lambda s: (s["filter"], s["doc_id"])):
            for metric in sample["metrics"]:
                label = metric if sample["filter"] == "none" else f"{metric} ({sample['filter']})"
                scores.setdefault(label, []).append(sample[metric])
        mean = {m for m, by in task.aggregation().items() if getattr(by, "__name__", "") == "mean"}
        for label, values in scores.items():
            if label.split(" (")[0] not in mean or not all(_is_share(v) for v in values):
                scores[label] = []
        yield name, {label: [float(v) for v in values] for label, values in scores.items()}


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _changes(
    base: Mapping[str, Scores], after: Mapping[str, Scores], asked: Mapping[str, Sequence[str]]
) -> list[Change]:
    """A line for each task or group that was asked for and each metric; a group's documents are pooled."""
    lines: list[tuple[str, str, list[float], list[float]]] = []
    for name, tasks in asked.items():
        for metric in dict.fromkeys(m for task in tasks for m, values in base[task].items() if values):
            before, now = (_pooled(scores, tasks, metric) for scores in (base, after))
            lines.append((name, metric, before, now))
    return _tested(lines)


def _pooled(scores: Mapping[str, Scores], tasks: Sequence[str], metric: str) -> list[float]:
    return [x for task in tasks for x in scores[task].get(metric, [])]


def _tested(lines: Sequence[tuple[str, str, list[float], list[float]]]) -> list[Change]:
    differences = [[y - x for x, y in zip(before, after, strict=True)] for *_, before, after in lines]
    p_values = [sign_flip_p(ByUser.of(d, range(len(d)))) for d in differences]
    changes = []
    for (name, metric, before, after), d, p, adjusted in zip(
        lines, differences, p_values, holm(p_values), strict=True
    ):
        e = clustered_mean(d, range(len(d)), range(len(d)), GAIN)  # every document stands for itself
        changes.append(
            Change(
                task=name,
                metric=metric,
                documents=len(d),
                base=round(100 * sum(before) / len(d), 2),
                trained=round(100 * sum(after) / len(d), 2),
                change=round(e.value, 2),
                ci95=(round(e.low, 2), round(e.high, 2)) if len(d) > 1 else None,
                better=sum(x > 0 for x in d),
                worse=sum(x < 0 for x in d),
                p=round(p, 5),
                p_holm=round(adjusted, 5),
            )
        )
    return changes


def table(found: Tax) -> str:
    """Markdown: a row a change, then what it is of."""
    rows = [
        "| task | metric | documents | base | trained | change, 95% interval | better / worse | p (Holm) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for c in found.changes:
        interval = f" [{c.ci95[0]:+.1f}, {c.ci95[1]:+.1f}]" if c.ci95 else ""
        rows.append(
            f"| {c.task} | {c.metric} | {c.documents} | {c.base:.1f} | {c.trained:.1f} | "
            f"{c.change:+.1f}{interval} | {c.better} / {c.worse} | {c.p_holm:.4f} |"
        )
    notes = [
        f"{found.method} on {found.task}, run {found.run}, against {found.model}; no user's shots; "
        f"lm-eval {found.lm_eval}; points of a hundred, paired by document."
    ]
    if found.limit:
        notes.append(f"Only the first {found.limit} documents of each task.")
    if found.left_out:
        notes.append(f"Not paired, as they have no share for each document: {', '.join(found.left_out)}.")
    return "\n".join([*rows, "", *notes])
