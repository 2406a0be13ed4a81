"""`fspo-bench synth-report`: the figures of a task and of its synthesis' stages, with n and interval."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fspo_bench.drawing import style
from fspo_bench.errors import UserError
from fspo_bench.lm.embed import sentence_embeddings
from fspo_bench.store import Store, write_atomic
from fspo_bench.synth import words
from fspo_bench.synth.columns import sampled
from fspo_bench.synth.evidence import PROMPTS, Evidence, gather
from fspo_bench.synth.figures import write_plot
from fspo_bench.synth.sections import (
    Measure,
    Section,
    Vectors,
    Ways,
    differences,
    duplicates,
    firmness,
    length,
    observer,
    similarity,
)

FORMAT = "fspo-bench/synth-report/1"


@dataclass(frozen=True)
class Report:
    """What was measured."""

    name: str
    embedder: str
    sections: Sequence[Section]


def report(
    folder: Path, embedder: str, store: Store, source: str | None = None, data_dir: Path | None = None
) -> Report:
    """Measure a task's folder.

    Raises:
        UserError: naming what cannot be read.
    """
    return Report(folder.name, embedder, measured(gather(folder, source, data_dir), embedder, store))


def measured(found: Evidence, embedder: str, store: Store) -> list[Section]:
    """The sections for which there is something to look at."""
    ways, prompts, vectors = _embedded(found, embedder, store)
    sections = [_counts(found), similarity(ways, embedder), duplicates(ways, prompts, vectors)]
    sections.append(firmness(found.labels))
    if found.task and found.table is not None:
        sections += [
            differences(found.task, found.table),
            length(found.task, found.preferences),
            observer(found.task, found.table),
        ]
    return sections


def _embedded(found: Evidence, embedder: str, store: Store) -> tuple[Ways, list[str], Vectors]:
    """Vectors of the answers as they lie, and the prompts that are compared with theirs."""
    prompts = sampled(found.prompts, PROMPTS, "prompts")
    lots = [lot for questions in found.ways.values() for of in questions.values() for lot in of]
    texts = list(dict.fromkeys([*prompts, *(text for lot in lots for text in lot)]))
    place = {text: n for n, text in enumerate(texts)}
    vectors = sentence_embeddings(texts, store, embedder)
    ways = {
        way: {
            question: [vectors[[place[t] for t in lot]] for lot in of] for question, of in questions.items()
        }
        for way, questions in found.ways.items()
    }
    return ways, prompts, vectors[[place[prompt] for prompt in prompts]]


def _counts(found: Evidence) -> Section:
    measures = [Measure(what, n) for what, n in found.counts.items()]
    measures += [
        Measure(f"dropped at {stage}: {why}", n) for (stage, why), n in sorted(found.dropped.items())
    ]
    notes = [found.task.note] if found.task and found.task.note else []
    return Section("What there is", words.COUNTS, measures, notes)


def write(found: Report, out: Path) -> list[Path]:
    """`report.md`, `report.json` and the figures; a file that is there already is replaced.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        files = [file for s in found.sections for plot in s.plots for file in write_plot(plot, out)]
        write_atomic(out / "report.json", json.dumps(as_json(found), indent=2) + "\n")
        write_atomic(out / "report.md", markdown(found, figures=True) + "\n")
    except OSError as error:
        raise UserError(f"--out: cannot write into '{out}' ({error.strerror})") from None
    return [out / "report.md", out / "report.json", *files]


def check_drawing() -> None:
    """Asked before the work, not after it.

    Raises:
        UserError: figures cannot be drawn.
    """
    with style():
        pass


def as_json(found: Report) -> dict[str, Any]:
    """Every figure with its interval and counts."""
    return {
        "format": FORMAT,
        "task": found.name,
        "embedder": found.embedder,
        "sections": [
            {
                "title": section.title,
                "measures": [
                    {"what": m.what, "value": _round(m.value), "unit": m.unit,
                     "ci95": [_round(x) for x in m.interval] if m.interval else None, "n": dict(m.n)}
                    for m in section.measures
                ],
                "notes": list(section.notes),
            }
            for section in found.sections
        ],
    }  # fmt: skip


def _round(x: float) -> float:
    return round(float(x), 4)


def markdown(found: Report, figures: bool = False) -> str:
    """What a person reads; with `figures`, links to the drawn ones beside it."""
    lines = [f"# Report on {found.name}", "", words.HEAD]
    for section in found.sections:
        lines += ["", f"## {section.title}", "", section.says]
        if section.measures:
            lines += ["", *_table(section.measures)]
        if section.notes:
            lines += ["", *(f"- {_safe(note)}" for note in section.notes)]
        if figures:
            for plot in section.plots:
                lines += ["", f"![{_safe(plot.alt)}]({plot.name}.svg)"]
    return "\n".join(lines)


def _table(measures: Sequence[Measure]) -> Iterator[str]:
    if all(m.interval is None and not m.n for m in measures):
        yield from (
            "| | count |",
            "|---|---|",
            *(f"| {_safe(m.what)} | {_shown(m.value, m)} |" for m in measures),
        )
        return
    yield from ("| figure | value | 95% interval | n |", "|---|---|---|---|")
    for m in measures:
        interval = " to ".join(_shown(x, m) for x in m.interval) if m.interval else "-"
        n = ", ".join(f"{count:,} {what}" for what, count in m.n.items() if count)
        yield f"| {_safe(m.what)} | {_shown(m.value, m)} | {interval} | {n} |"


def _safe(text: str) -> str:
    """One line in which no tag, link or cell begins: prompts and names are a model's or a stranger's."""
    return re.sub(r"([\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _shown(x: float, m: Measure) -> str:
    if m.unit == "%":
        return f"{x:.1f}%"
    if m.unit in ("cosine", "nats"):
        return f"{x:.3f}"
    return f"{x:,.0f}" if np.isclose(x, round(x)) else f"{x:,.1f}"
