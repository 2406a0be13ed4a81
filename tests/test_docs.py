"""The documents: every command in them can be given, marked blocks are really run, and the site builds.

Rules are in CONTRIBUTING.md. Bash itself reads the blocks (quotes, variables, continued lines, comments); its
PATH leads nowhere, so that it starts nothing and reports what it was asked for.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from fspo_bench.cli import _parser, main
from fspo_bench.data.sources import option_names
from fspo_bench.leaderboard.paper import table_names
from fspo_bench.packs import docstring, find_judges, find_methods, find_tasks, load_method, packs
from fspo_bench.presets import PRESETS, Preset
from fspo_bench.settings import names_of

ROOT = Path(__file__).parents[1]
EVERYWHERE = ("*.md", "docs/*.md", *(f"{top}/**/README.md" for top in ("tasks", "leaderboards", "models")))
PAGES = sorted(file for pattern in EVERYWHERE for file in ROOT.glob(pattern))
SHELL = ("", "sh", "bash")
TOOLS = (
    "accelerate", "cat", "curl", "git", "hf", "lm_eval", "make", "mkdocs", "pip", "python", "ray", "sbatch",
    "sed", "seq", "torchrun", "vllm", "xargs",
)  # fmt: skip
"""Programs that documents may name beside fspo-bench."""
FENCE = re.compile(r"^(<!-- run -->\n)?( *)(`{3,}|~{3,})([^\n`]*)\n(.*?)^\2\3[ \t]*$", re.M | re.S)
TOP = tuple(f"{d.name}/" for d in ROOT.iterdir() if d.is_dir() and not d.name.startswith((".", "runs")))
REPORT = 'command_not_found_handle() { printf "%s\\0" "$@" > "$REPORT/$EPOCHREALTIME-$BASHPID"; }\nset -f\n'

WHERE = packs()[:1]
METHODS, TASKS, JUDGES = find_methods(WHERE), find_tasks(WHERE), find_judges(WHERE)
NAMES = {
    "method": {f.name for f in METHODS},
    "task": {f.name for f in TASKS},
    "judge": {f.name for f in JUDGES},
    "preset": set(PRESETS),
    "tables": set(table_names()),
}
"""By argument, what a name may be."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    run: bool
    text: str


def blocks(file: Path) -> Iterator[Block]:
    page, text = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        yield Block(page, line, found[4].strip(), bool(found[1]), found[5])
    if re.search("^<!-- run -->$", FENCE.sub("", text), re.M):
        raise AssertionError(f"{page}: <!-- run --> belongs on the line before a block")


def docstring_blocks() -> Iterator[Block]:
    """The commands that stand indented in the docstrings of methods and baselines."""
    for f in METHODS:
        lines = [s for s in map(str.strip, docstring(f).splitlines()) if s.startswith("fspo-bench ")]
        yield Block(f"{f.kind}s/{f.name}.py", 1, "", False, "\n".join(lines))


SHELLS = [
    b for b in (*(b for page in PAGES for b in blocks(page)), *docstring_blocks()) if b.language in SHELL
]
RUN_PAGES = sorted({b.page for b in SHELLS if b.run})


def commands(block: Block, folder: Path) -> list[list[str]]:
    """What bash would start, word by word; patterns of file names stay as they are.

    Each call reports into a file of its own, named by its time: the ends of a pipe run at once.
    """
    report = Path(tempfile.mkdtemp(prefix="report-", dir=folder))
    done = subprocess.run(
        ["/bin/bash", "-c", REPORT + block.text], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": "/nowhere", "REPORT": str(report)},
    )  # fmt: skip
    assert "syntax error" not in done.stderr, f"{block.page}, line {block.line}: {done.stderr}"
    return [call.read_text(encoding="utf-8").split("\0")[:-1] for call in sorted(report.iterdir())]


@pytest.mark.parametrize("block", SHELLS, ids=lambda b: f"{b.page}:{b.line}")
def test_every_command_can_be_given(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program, *arguments in commands(block, tmp_path):
        shown = f"{block.page}, line {block.line}: {program} {' '.join(arguments)}"
        assert program == "fspo-bench" or program in TOOLS, f"{shown}: not shell? then mark the block `text`"
        for path in arguments:
            assert not path.startswith(TOP) or _is_readers(path) or (ROOT / path).exists(), (
                f"{shown}: no {path}"
            )
        if program == "make":
            assert set(arguments) <= _targets(), shown
        if program == "fspo-bench":
            _check(arguments, shown, capsys)


def _check(arguments: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The real parser takes it, and what it names is there."""
    try:
        given = vars(_parser().parse_args(arguments))
    except SystemExit as stop:
        assert stop.code == 0, f"{shown}: {capsys.readouterr().err.splitlines()[-1]}"
        return
    for argument, known in NAMES.items():
        names = [n for n in (given.get(argument) or "").split(",") if n and not _is_readers(n)]
        assert set(names) <= known | {"all"}, f"{shown}: {argument}"
    of_the_reader = "/" in (given.get("method") or "")  # a file of the reader's, with settings of its own
    for pair in () if of_the_reader else given.get("set") or ():
        assert pair.partition("=")[0] in _settings() or _is_readers(pair), f"{shown}: --set {pair}"


def _is_readers(name: str) -> bool:
    """The reader's own thing: `RUN`, `OWNER/NAME`, `./mine.py`."""
    return name.startswith(("./", "../", "/")) or any(part.isupper() for part in re.split(r"[/.=,]", name))


def _targets() -> set[str]:
    found = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    return set(found)


@cache
def _settings() -> set[str]:
    """What `--set` may name, for some method, task or budget."""
    of_methods = {name for f in METHODS for name in names_of(load_method(f).Config)}
    return of_methods | names_of(Preset) | {n for f in TASKS for n in option_names(f.path, "hub")}


@pytest.mark.parametrize("page", RUN_PAGES)
def test_marked_blocks_run(
    page: str, tmp_path: Path, store_of_pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSPO_BENCH_HOME", str(store_of_pages))
    monkeypatch.chdir(tmp_path)
    for block in (b for b in SHELLS if b.page == page and b.run):
        for program, *words in commands(block, tmp_path):
            assert program == "fspo-bench", f"{page}, line {block.line}: only fspo-bench can be run here"
            arguments = [a for w in words for a in (sorted(map(str, Path().glob(w))) if "*" in w else [w])]
            assert main(arguments) == 0, f"{page}, line {block.line}: {' '.join(arguments)}"


@pytest.fixture(scope="module")
def store_of_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all pages: what one of them trained is not trained again."""
    return tmp_path_factory.mktemp("home")


def made_up(text: str) -> Block:
    return Block("a page", 1, "", False, text)


def test_bash_reads_the_blocks(tmp_path: Path) -> None:
    block = made_up("""
        C="--task reviews
           --limit 2"
        for s in 0 1; do
          X=1 fspo-bench run $C --method './a b.py' \\
            --seed $s  # why
        done
    """)
    shared = ["fspo-bench", "run", "--task", "reviews", "--limit", "2", "--method", "./a b.py", "--seed"]
    assert commands(block, tmp_path) == [[*shared, "0"], [*shared, "1"]]


WRONG = (
    "fspo-bench rn", "fspo-bench run --method fspo", "fspo-bench run --method fsop --task reviews",
    "fspo-bench run --method fspo --task reviews --set bta=1", "glove : ready", "make coffee",
    "python benchmarks/no_such.py", "fspo-bench ls | (",
)  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_command_is_found(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):
        test_every_command_can_be_given(made_up(text), tmp_path, capsys)


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material")
    site = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", site]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for file in (*site.rglob("*.html"), *site.rglob("*.css")):
        text = file.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)|@import[^;]+', text)
        loaded += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]+href="(https?:[^"]+)', text)
        assert not loaded, f"{file.name}: {loaded}"
    methods = (site / "methods.html").read_text(encoding="utf-8")
    assert all(f'id="{f.name}"' in methods for f in METHODS)
    assert "ideal observer" in (site / "tasks" / "roleplay.html").read_text(encoding="utf-8")
