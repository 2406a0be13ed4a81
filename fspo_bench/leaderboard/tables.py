"""Leaderboards and the paper's tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from fspo_bench.errors import UserError
from fspo_bench.evaluate.results import Metric
from fspo_bench.leaderboard.boards import Board, Line
from fspo_bench.leaderboard.paper import PaperTable
from fspo_bench.store import write_atomic

BEGIN, END = "<!-- boards: begin -->", "<!-- boards: end -->"
HEADS = ("rank", "method", "win rate vs base", "at equal length", "personal gain", "own vs other",
         "preference acc.", "length", "copied", "seeds", "verified")  # fmt: skip


def cells(line: Line) -> tuple[str, ...]:
    """A line as text, in the order of HEADS."""
    ranks = "-".join(str(rank) for rank in dict.fromkeys(line.ranks))
    equal = "-"
    if line.length_controlled:
        value, low, high = line.length_controlled
        equal = f"{value:.1f} [{low:.1f}, {high:.1f}]"
    return (
        ranks, line.label, shown(line.win_rate), equal, shown(line.personal_gain, signed=True),
        shown(line.own_vs_wrong_user), shown(line.preference_accuracy), f"{line.length_ratio:.2f}x",
        f"{line.copy_rate:.0f}%", str(len(line.runs)), "yes" if line.verified else "no",
    )  # fmt: skip


def shown(metric: Metric | None, signed: bool = False) -> str:
    """`80.2 [62.1, 98.3]`."""
    if metric is None:
        return "-"
    value = f"{metric.value:{'+' if signed else ''}.1f}"
    return value + (f" [{metric.ci95[0]:.1f}, {metric.ci95[1]:.1f}]" if metric.ci95 else "")


def caption(board: Board) -> str:
    """How many stand behind a board, and how far to believe its judge."""
    m, judge = board.lines[0].win_rate, board.judge
    asking = f" asking {judge.model}" if judge.model else ""
    return (
        f"{m.n_users} users, {m.n_questions} questions, {m.n:,} answers a line and seed; judge "
        f"{judge.name}{asking}, right on {judge.accuracy:.1f} [{judge.ci95[0]:.1f}, {judge.ci95[1]:.1f}] of "
        f"unseen labels (always the longer answer {judge.longest_answer:.1f}, a coin 50)."
    )


def markdown(board: Board) -> str:
    """A board with its caption, and the command behind each line."""
    lines = [f"### {board.title}", "", caption(board)]
    if board.no_length_control:
        lines.append(f"No rates at equal length: {board.no_length_control}.")
    lines += ["", _row(HEADS), _row(["---"] * len(HEADS)), *(_row(cells(line)) for line in board.lines)]
    lines += ["", "<details><summary>Commands</summary>", "", "```"]
    lines += [run.record.command for line in board.lines for run in line.runs]
    return "\n".join([*lines, "```", "", "</details>"])


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def paper_markdown(table: PaperTable) -> str:
    """A table of the paper with where it comes from and what is uncertain."""
    heads = ["", *table.columns]
    lines = [
        f"### {table.title}",
        "",
        f"{table.measured[0].upper()}{table.measured[1:]}. {table.provenance}.",
        "",
    ]
    if rows := [row for row in table.rows if row.paper]:
        lines += [_row(heads), _row(["---"] * len(heads))]
        for row in rows:
            star = "*" if row.secondary else ""
            lines.append(_row([row.name, *(f"{row.paper[c]:g}{star}" for c in table.columns)]))
        lines.append("")
    if any(row.secondary for row in table.rows):
        lines.append("- Figures with * come from a summary that the authors did not write.")
    return "\n".join([*lines, *(f"- {sentence}" for sentence in table.uncertain)])


def to_csv(boards: Sequence[Board]) -> str:
    """Every line of every board with all figures."""
    rates = ("win_rate", "personal_gain", "own_vs_wrong_user", "preference_accuracy")
    ends = [f"{rate}{end}" for rate in rates for end in ("", "_low", "_high")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["task", "model", "preset", "judge", "judge_model", "judge_accuracy", "method", *ends,
         "lc_win_rate", "lc_win_rate_low", "lc_win_rate_high", "rank_best", "rank_worst", "length_ratio",
         "copy_rate", "n_users", "n_questions", "n", "seeds", "verified", "ids"]
    )  # fmt: skip
    for board in boards:
        for line in board.lines:
            figures = [x for rate in rates for x in _figures(getattr(line, rate))]
            m, judge = line.win_rate, board.judge
            writer.writerow(
                [board.task, board.model, board.preset, judge.name, judge.model, judge.accuracy, line.label,
                 *figures, *_rounded(line.length_controlled), *line.ranks, round(line.length_ratio, 3),
                 round(line.copy_rate, 2), m.n_users, m.n_questions, m.n,
                 " ".join(map(str, line.seeds)), line.verified, " ".join(r.record.id for r in line.runs)]
            )  # fmt: skip
    return out.getvalue()


def _figures(metric: Metric | None) -> tuple[object, ...]:
    if metric is None:
        return "", "", ""
    return (metric.value, *(metric.ci95 or ("", "")))


def _rounded(values: tuple[float, float, float] | None) -> tuple[object, ...]:
    return ("", "", "") if values is None else tuple(round(v, 2) for v in values)


def changes(before: str, after: str) -> str:
    """What a change of the records does to the tables, from CSV to CSV, as Markdown."""
    old, new = (_by_line(text) for text in (before, after))
    rows = [
        _row(
            [*line, _rate(old.get(line)), _rate(new.get(line)), _ranks(old.get(line)), _ranks(new.get(line))]
        )
        for line in sorted(old.keys() | new.keys())
        if old.get(line) != new.get(line)
    ]
    if not rows:
        return "No line of any leaderboard changes."
    heads = ["task", "model", "preset", "judge", "method", "before", "after", "rank before", "rank after"]
    return "\n".join(["Win rates vs base, percent.", "", _row(heads), _row(["---"] * len(heads)), *rows])


def _by_line(text: str) -> dict[tuple[str, ...], dict[str, str]]:
    keys = ("task", "model", "preset", "judge", "method")
    return {tuple(row[k] for k in keys): row for row in csv.DictReader(io.StringIO(text))}


def _rate(row: dict[str, str] | None) -> str:
    if row is None:
        return "-"
    interval = f" [{row['win_rate_low']}, {row['win_rate_high']}]" if row["win_rate_low"] else ""
    return f"{row['win_rate']}{interval}"


def _ranks(row: dict[str, str] | None) -> str:
    return "-" if row is None else f"{row['rank_best']}-{row['rank_worst']}"


def latex(board: Board) -> str:
    """A `booktabs` table."""
    heads = HEADS[:8]
    lines = [
        "% generated by `fspo-bench leaderboard`; needs \\usepackage{booktabs}",
        f"% {board.title}: {caption(board)}",
        "\\begin{tabular}{rl" + "r" * (len(heads) - 2) + "}",
        "\\toprule",
        _latex_row(heads),
        "\\midrule",
        *(_latex_row(cells(line)[: len(heads)]) for line in board.lines),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(texts: Sequence[str]) -> str:
    escaped = (t.replace("_", "\\_").replace("%", "\\%").replace("&", "\\&") for t in texts)
    return " & ".join(escaped) + " \\\\"


def tables(boards: Sequence[Board], papers: Sequence[PaperTable], out: Path) -> dict[Path, str]:
    """What each file of the folder holds: README.md between its marks, one CSV, a LaTeX file a board.

    Raises:
        UserError: a README without the marks.
    """
    blocks = ["## Leaderboards", *map(markdown, boards), "## The paper's tables",
              *map(paper_markdown, papers)]  # fmt: skip
    return {
        out / "README.md": _between_marks(out / "README.md", "\n\n".join(blocks)),
        out / "leaderboard.csv": to_csv(boards),
        **{out / "latex" / f"{board.slug}.tex": latex(board) for board in boards},
    }


def _between_marks(page: Path, text: str) -> str:
    around = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    if BEGIN not in around or END not in around:
        raise UserError(f"{page}: lacks the marks '{BEGIN}' and '{END}', between which the tables stand")
    return f"{around.split(BEGIN)[0]}{BEGIN}\n{text}\n{END}{around.split(END)[1]}"


def write_tables(files: Mapping[Path, str], out: Path) -> None:
    """Write each file whole, and remove the LaTeX of boards that are gone."""
    for file, content in files.items():
        write_atomic(file, content)
    for file in _gone(files, out):
        file.unlink()


def differing(files: Mapping[Path, str], out: Path) -> list[Path]:
    """Those that are not, or not so, on disk, and the LaTeX of boards that are gone."""
    differ = [f for f, text in files.items() if not f.is_file() or f.read_text(encoding="utf-8") != text]
    return differ + _gone(files, out)


def _gone(files: Mapping[Path, str], out: Path) -> list[Path]:
    return sorted(set((out / "latex").glob("*.tex")) - files.keys())


def listing(boards: Sequence[Board]) -> str:
    """The boards for a terminal."""
    blocks = []
    for board in boards:
        rows = [HEADS, *map(cells, board.lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        blocks.append("\n".join([board.title, caption(board), *lines]))
    return "\n\n".join(blocks) or "no records yet: `fspo-bench submit RUN` adds one"
