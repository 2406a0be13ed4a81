"""The table a person reads."""

from __future__ import annotations

from collections.abc import Sequence

from fspo_bench.evaluate.compare import Comparison
from fspo_bench.evaluate.results import Metric, Record

HEADINGS = (
    "method", "win rate vs base", "corrected", "personal gain", "own vs other", "preference acc.",
    "users", "questions", "length", "copied", "trained", "tokens", "seconds",
)  # fmt: skip


def table(records: Sequence[Record]) -> str:
    """One block a task: a row for each record, then the judge and what to know about the numbers."""
    blocks = []
    for task in dict.fromkeys(r.task for r in records):
        of_task = [r for r in records if r.task == task]
        rows = [HEADINGS, *(_row(r) for r in of_task)]
        widths = [max(len(row[c]) for row in rows) for c in range(len(HEADINGS))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        first = of_task[0]
        title = f"{task}  (model {first.model}, preset {first.preset}, seed {first.seed})"
        blocks.append("\n".join([title, *lines, "", *_footnotes(of_task)]))
    return "\n\n".join(blocks)


def _row(record: Record) -> tuple[str, ...]:
    m = record.metrics
    shown = m.win_rate or m.preference_accuracy or m.longest_answer
    return (
        record.label if record.complete else f"{record.label} (partial)",
        _metric(m.win_rate),
        _metric(m.win_rate_corrected),
        _metric(m.personal_gain, signed=True),
        _metric(m.own_vs_wrong_user),
        _metric(m.preference_accuracy),
        str(shown.n_users),
        str(shown.n_questions),
        f"{m.length_ratio:.2f}x",
        f"{m.copy_rate:.0f}%",
        short(record.parameters),
        short(record.tokens),
        f"{record.seconds:.0f}",
    )


def short(n: int) -> str:
    """`921k`, `1.2M`."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.1f}{letter}" if n < 10 * size else f"{n / size:.0f}{letter}"
    return str(n)


def _metric(metric: Metric | None, signed: bool = False) -> str:
    if metric is None:
        return "-"
    value = f"{metric.value:+.1f}" if signed else f"{metric.value:.1f}"
    return f"{value} [{metric.ci95[0]:.1f}, {metric.ci95[1]:.1f}]" if metric.ci95 else value


def _footnotes(records: Sequence[Record]) -> list[str]:
    lines = [
        "Percent, with 95% intervals clustered by user. base is 50.0 by definition. "
        "trained: parameters; tokens: run in training, each pass counted."
    ]
    if judge := records[0].judge:
        low, high = judge.ci95
        weak = (
            "" if judge.accuracy_with_weak is None else f"{judge.accuracy_with_weak:.1f}% where one is weak, "
        )
        lines.append(
            f"judge {judge.name}: right on {judge.accuracy:.1f}% [{low:.1f}, {high:.1f}] of unseen labels "
            f"between two real views (longest answer {judge.longest_answer:.1f}%, coin {judge.coin:.1f}%), "
            f"{weak}{judge.accuracy_all:.1f}% of all; "
            "'corrected' takes the errors of all out."
        )
    m = records[0].metrics
    lines.append(
        "preference accuracy of predictors that know no user: "
        f"longest answer {_metric(m.longest_answer)}, surface features {_metric(m.population_model)}"
    )
    for record in records:
        for name, group in record.metrics.groups.items():
            shown = group.win_rate or group.preference_accuracy
            n = shown.n_users if shown else 0
            lines.append(
                f"{record.label}, {name} (n={n}): win rate {_metric(group.win_rate)}, personal gain "
                f"{_metric(group.personal_gain, signed=True)}, accuracy {_metric(group.preference_accuracy)}"
            )
    for record in records:
        if record.measured:
            figures = ", ".join(f"{name} {value:.3g}" for name, value in record.measured.items())
            lines.append(f"{record.label} measured: {figures}")
    for record in records:
        lines += [f"{record.label}: {note}" for note in record.notes]
    return lines


def comparison_table(found: Comparison) -> str:
    """Where runs stand, then a line for each pair of them."""
    width = max(len(row) for row in [*(s.run for s in found.standings), *(d.runs for d in found.differences)])
    lines = [f"{'':<{width}}  win rate vs base    at equal length     ranks"]
    for s in sorted(found.standings, key=lambda s: -s.win_rate.value):
        ranks = "-".join(str(rank) for rank in dict.fromkeys(s.ranks))
        equal = "-"
        if s.length_controlled:
            value, low, high = s.length_controlled
            equal = f"{value:.1f} [{low:.1f}, {high:.1f}]"
        lines.append(f"{s.run:<{width}}  {_metric(s.win_rate):<18}  {equal:<18}  {ranks}")
    lines.append("")
    for d in found.differences:
        m = d.difference
        detectable = "" if d.detectable is None else f", detectable {d.detectable:.1f}"
        lines.append(
            f"{d.runs:<{width}}  {_metric(m, signed=True)}  p {d.p:.3f}, Holm {d.p_holm:.3f}{detectable}  "
            f"({m.n_users} users, {m.n_questions} questions, {m.n} answers)"
        )
    lines += [
        "",
        "Points of win rate, paired by user and question; 95% intervals clustered by user.",
        "p: users' differences with flipped signs; Holm: adjusted for all lines; ranks: of those not told",
        "apart, adjusted for all pairs; detectable: a true difference that is found four times in five.",
    ]
    if found.no_length_control:
        lines.append(f"no rates at equal length: {found.no_length_control}.")
    users, runs = min(d.difference.n_users for d in found.differences), len(found.standings)
    pairs, least = runs * (runs - 1) // 2, 2.0 ** (1 - users)
    if pairs * least > 0.05:
        lines.append(
            f"{users} users: no p can be below {least:.3g}, so that none of {pairs} pairs can be told apart "
            "once adjusted; rank with more users or fewer runs."
        )
    return "\n".join(lines)
