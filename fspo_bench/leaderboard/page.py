"""The leaderboards as one static folder: `index.html` works from a disk and asks no server.

Whatever a model, a file or a person wrote is escaped here (`markup`), or is a text node (`assets/page.js`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.judge_cards import JudgeCard, measures
from fspo_bench.evaluate.results import Metric
from fspo_bench.judge.card import WARN_BELOW
from fspo_bench.leaderboard.answers import answer_files
from fspo_bench.leaderboard.boards import Board, Line
from fspo_bench.leaderboard.markup import Html, joined, tag
from fspo_bench.leaderboard.paper import PaperTable
from fspo_bench.leaderboard.plots import plots_of, write_plots
from fspo_bench.leaderboard.tables import HEADS, caption, cells, shown
from fspo_bench.store import write_atomic

ASSETS = Path(__file__).parent / "assets"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'"
TITLE = "fspo-bench leaderboards"
LEAD = (
    "How well does a language model answer each person once it has seen a few of their preferences? On every "
    "board all methods met the same users, the same questions and the same judge, and behind every number "
    "stand the answers it was counted from."
)
READING = (
    "A win rate says how often the judge holds that a user would prefer the method's answer to the one of "
    "the untouched model, base: 50 is no better. In brackets stand 95% intervals by user. A rank is the "
    "range of places that paired tests, adjusted for all pairs of methods, leave open: a wide one says that "
    "too few users were asked to tell.",
    "The judge errs too. Each board says how often it is right about labels it has never seen; the answers "
    "below each board are there to be read.",
)
COLUMNS = (
    ("at equal length", "the win rate once what length alone wins is taken out"),
    ("personal gain", "points of win rate behind the user's own shots above those behind another user's"),
    ("own vs other", "how often the answer behind the user's own shots beats the one behind another user's"),
    ("preference acc.", "how often the model ranks two unseen answers as the user did"),
    ("length", "words beside base's answers"),
    ("copied", "the longest run of words taken from a shot, as a share of the answer"),
    ("verified", "the judge was asked again about every answer and said the same"),
    ("controls", "verbose and concise change length alone, wrong_user reads another user's shots, "
     "shuffled_labels reads shots with labels at random"),
)  # fmt: skip


def write_page(
    boards: Sequence[Board], papers: Sequence[PaperTable], cards: Sequence[JudgeCard],
    tasks: Mapping[str, Task], out: Path,
) -> Path:  # fmt: skip
    """Write the folder; answers are shown where the task of that name holds the texts that the runs met.

    Raises:
        UserError: no matplotlib for the figures.
    """
    sections = []
    for name, board in _named(boards).items():
        write_plots(board, out / "plots" / name)
        files = answer_files(name, board, tasks[board.task]) if _at_hand(board, tasks) else {}
        for file, content in files.items():
            write_atomic(out / "data" / name / f"{file}.js", content)
        sections.append(_board(name, board, cards, reads=bool(files)))
    for asset in ("page.css", "page.js"):
        write_atomic(out / "assets" / asset, (ASSETS / asset).read_bytes())
    index = out / "index.html"
    write_atomic(index, f"<!doctype html>\n{_page(_named(boards), sections, papers)}\n")
    return index


def _at_hand(board: Board, tasks: Mapping[str, Task]) -> bool:
    """Whether the texts are here that the board's runs met: shots of others would be shown as theirs."""
    spec = board.lines[0].runs[0].record.spec
    return board.task in tasks and tasks[board.task].hash == spec["task"]["hash"]


def _named(boards: Sequence[Board]) -> dict[str, Board]:
    """Boards by names that files and addresses can bear, each another."""
    named: dict[str, Board] = {}
    for board in boards:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", board.slug).strip(".")
        again = sum(name == plain or name.startswith(f"{plain}~") for name in named)
        named[f"{plain}~{again + 1}" if again else plain] = board
    return named


def _page(named: Mapping[str, Board], sections: Sequence[Html], papers: Sequence[PaperTable]) -> Html:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", TITLE),
        tag("link", rel="stylesheet", href="assets/page.css"),
        tag("script", src="assets/page.js"),
    )
    links = [*((name, board.title) for name, board in named.items()), ("paper", "The paper's tables")]
    body = tag(
        "body",
        tag("a", "Skip to the tables", class_="skip", href="#boards"),
        tag("header", tag("h1", TITLE), tag("p", LEAD, class_="lead"), _contents(links), _reading()),
        tag("main", *(sections or [_empty()]), _papers(papers), id="boards", tabindex="-1"),
        tag("footer", tag("p", "Add a run: ", tag("code", "fspo-bench submit RUN"))),
    )
    return tag("html", head, body, lang="en")


def _contents(links: Sequence[tuple[str, str]]) -> Html:
    items = (tag("li", tag("a", title, href=f"#{quote(name)}")) for name, title in links)
    return tag("nav", tag("ul", *items), aria_label="Boards")


def _reading() -> Html:
    columns = (tag("div", tag("dt", name), tag("dd", what)) for name, what in COLUMNS)
    return tag(
        "section",
        tag("h2", "How to read it", id="reading"),
        *(tag("p", text) for text in READING),
        tag("dl", *columns, class_="columns"),
        aria_labelledby="reading",
    )


def _empty() -> Html:
    return tag("p", "No records yet: ", tag("code", "fspo-bench submit RUN"), " adds one.")


def _board(name: str, board: Board, cards: Sequence[JudgeCard], reads: bool) -> Html:
    return tag(
        "section",
        tag("h2", board.title, id=name),
        tag("p", caption(board), class_="caption"),
        *([tag("p", f"No rates at equal length: {board.no_length_control}.", class_="caption")]
          if board.no_length_control else []),
        _table(name, board),
        _figures(name, board),
        _judge(board, cards),
        _answers(name, board) if reads else _no_answers(board),
        class_="board",
        aria_labelledby=name,
    )  # fmt: skip


def _table(name: str, board: Board) -> Html:
    """Each line is a body of its own, so that its command stays below it however the table is sorted."""
    heads = (
        tag(
            "th",
            tag("button", text, type="button"),
            scope="col",
            class_="text" if text == "method" else None,
            aria_sort="descending" if text == HEADS[2] else "none",
        )
        for text in HEADS
    )
    bodies = (_line(f"{name}-{place}", line) for place, line in enumerate(board.lines))
    return _scrolling(
        tag(
            "table",
            tag("thead", tag("tr", *heads, tag("th", "command", scope="col"))),
            *bodies,
            class_="sorts",
        ),
        f"Board: {board.title}",
    )


def _scrolling(table: Html, label: str) -> Html:
    """A box that scrolls sideways, also by keyboard, where the table is wider than the screen."""
    return tag("div", table, class_="scroll", role="region", aria_label=label, tabindex="0")


def _line(place: str, line: Line) -> Html:
    rank, label, rate, *others = cells(line)
    row = tag(
        "tr",
        _cell(rank, line.ranks[0] + line.ranks[1] / 1000),
        tag("th", label, scope="row", data_sort=label),
        tag("td", _stacked(rate), _bar(line.win_rate), class_="rate", data_sort=line.win_rate.value),
        *(_cell(text, value) for text, value in zip(others, _values(line), strict=True)),
        tag("td", tag("button", "Show", type="button", class_="more", aria_expanded="false",
                      aria_controls=f"{place}-commands", aria_label=f"Command behind {label}")),
    )  # fmt: skip
    commands = (
        tag(
            "div",
            tag("p", f"Seed {run.record.seed}, run {run.record.id}",
                tag("button", "Copy", type="button", class_="copy")),
            tag("pre", tag("code", run.record.command)),
        )
        for run in line.runs
    )  # fmt: skip
    below = tag("td", *commands, colspan=len(HEADS) + 1)
    return tag("tbody", row, tag("tr", below, class_="commands", id=f"{place}-commands"))


def _values(line: Line) -> list[float | None]:
    """What the columns behind the win rate sort by."""
    rates = (line.personal_gain, line.own_vs_wrong_user, line.preference_accuracy)
    return [
        line.length_controlled[0] if line.length_controlled else None,
        *(rate.value if rate else None for rate in rates),
        line.length_ratio, line.copy_rate, len(line.runs), line.verified,
    ]  # fmt: skip


def _cell(text: str, value: float | None) -> Html:
    return tag("td", _stacked(text), data_sort=None if value is None else float(value))


def _stacked(text: str) -> Html:
    """A value with its interval below it, so that a row of them is narrow."""
    value, bracket, interval = text.partition(" [")
    return joined(value, " ", tag("small", f"[{interval}")) if bracket else joined(value)


def _bar(rate: Metric) -> Html:
    """The interval drawn on 0..100."""
    low, high = rate.ci95 or (rate.value, rate.value)
    return tag(
        "svg",
        tag("path", class_="scale", d="M0 5H100M50 1V9"),
        tag("line", class_="interval", x1=low, x2=high, y1=5, y2=5),
        tag("circle", cx=rate.value, cy=5, r=2.2),
        viewBox="-4 0 108 10",
        class_="bar",
        aria_hidden="true",
    )


def _figures(name: str, board: Board) -> Html:
    folder = f"plots/{quote(name)}"
    figures = (
        tag(
            "figure",
            _scrolling(tag("img", src=f"{folder}/{p.name}.svg", alt=f"{p.title}. {p.alt}"), p.title),
            tag("figcaption", p.title, ": ", tag("a", "SVG", href=f"{folder}/{p.name}.svg"), ", ",
                tag("a", "PNG", href=f"{folder}/{p.name}.png")),
        )
        for p in plots_of(board)
    )  # fmt: skip
    return joined(tag("h3", "Figures"), tag("div", *figures, class_="figures"))


def _judge(board: Board, cards: Sequence[JudgeCard]) -> Html:
    judge = board.judge
    card = next((c for c in cards if (c.task, c.key) == (board.task, judge.key)), None)
    if card is None:
        how = f"fspo-bench judge-card --task {board.task} --judge {judge.name}"
        return joined(
            tag("h3", "The judge"), tag("p", "No card of this judge is kept: ", tag("code", how), ".")
        )
    heads = ("", "%, 95% interval", "pairs", "users", "questions")
    rows = (
        tag("tr", tag("th", name.strip(), scope="row", class_="held" if name.startswith(" ") else None),
            *(tag("td", text) for text in (shown(m), f"{m.n:,}", f"{m.n_users:,}", f"{m.n_questions:,}")))
        for name, m in measures(card)
    )  # fmt: skip
    missing = ", ".join(f"{n} {reason}" for reason, n in card.without.items()) or "none"
    asking = f" asking {card.model}" if card.model else ""
    below = [tag("p", f"Pairs without a verdict: {missing}. A coin is right on {card.coin:.0f}.")]
    if card.agreement is None or card.agreement.value < WARN_BELOW:
        below.append(tag("p", "Do not rest a claim on this judge here.", class_="warning"))
    table = tag(
        "table", tag("thead", tag("tr", *(tag("th", h, scope="col") for h in heads))), tag("tbody", *rows)
    )
    return joined(
        tag("h3", "The judge"),
        tag("p", f"Judge {card.judge}{asking}, measured on {card.pairs:,} labelled pairs it had never seen."),
        _scrolling(table, f"Judge of {board.title}"),
        *below,
    )


def _answers(name: str, board: Board) -> Html:
    return tag(
        "details",
        tag("summary", tag("h3", "Read the answers")),
        tag("div", tag("p", "The answers need JavaScript.", class_="scriptless"), class_="browser"),
        class_="answers",
        data_board=name,
    )


def _no_answers(board: Board) -> Html:
    text = f"Not shown: the texts of task {board.task} here are not those that these runs met."
    return joined(tag("h3", "Read the answers"), tag("p", text))


def _papers(papers: Sequence[PaperTable]) -> Html:
    starred = "* from a summary that the authors did not write"
    return tag(
        "section",
        tag("h2", "The paper's tables", id="paper"),
        tag("p", f"What FSPO's authors report, with where it stands and what is uncertain; {starred}."),
        tag("div", *map(_paper, papers), class_="tables"),
        aria_labelledby="paper",
    )


def _paper(paper: PaperTable) -> Html:
    heads = (tag("th", text, scope="col") for text in ("", *paper.columns))
    rows = [
        tag("tr", tag("th", row.name, scope="row"),
            *(tag("td", f"{row.paper[c]:g}{'*' if row.secondary else ''}" if c in row.paper else "-")
              for c in paper.columns))
        for row in paper.rows
        if row.paper
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    return tag(
        "article",
        tag("h3", paper.title),
        tag("p", f"{paper.measured[:1].upper()}{paper.measured[1:]}. From {paper.provenance}."),
        *([_scrolling(table, f"The paper's table: {paper.title}")] if rows else []),
        tag("p", "Uncertain:", class_="caption"),
        tag("ul", *(tag("li", sentence) for sentence in paper.uncertain)),
    )
