"""The command line: exit codes, one-sentence errors, what each verb prints, and how little it imports."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fspo_bench import __version__
from fspo_bench.cli import main
from fspo_bench.errors import UserError
from fspo_bench.grid import Planned
from fspo_bench.packs import builtin_root
from fspo_bench.verbs.common import command
from tests.conftest import write_task
from tests.made import a_record, edit, rated_task

HEAVY = ("torch", "numpy", "pandas", "transformers", "peft", "sentence_transformers", "scipy")


class Shell:
    """Runs a command line in this process: exit code, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *argv: object) -> tuple[int, str, str]:
        self.capsys.readouterr()
        try:
            code = main([str(a) for a in argv])
        except SystemExit as stop:  # argparse
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = self.capsys.readouterr()
        return code, out, err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A third party's pack: a task with a card, and a method that must never be run."""
    root = tmp_path / "theirs"
    write_task(root / "tasks" / "garden").joinpath("README.md").write_text("# The garden card\n\nÉté.\n")
    root.joinpath("methods").mkdir()
    root.joinpath("methods", "boom.py").write_text('"""Boom: it explodes.\n\nMore."""\nraise RuntimeError\n')
    return root


def one_sentence(err: str) -> str:
    """The error's text, which must be one line and no traceback."""
    assert err.startswith("fspo-bench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.removeprefix("fspo-bench: ").rstrip()


# --- exit codes ---


def test_done_is_0(shell: Shell) -> None:
    assert shell("ls")[0] == 0
    assert shell("--version")[:2] == (0, f"{__version__}\n")
    code, out, _ = shell("--help")
    assert code == 0
    for verb in ("run", "ls", "show", "validate"):
        assert f"    {verb} " in out


RUN = ("run", "--method", "fspo", "--task", "roleplay")
WRONG = [
    ((*RUN, "--set", "beat=1"), "--set beat: method 'fspo' has no such setting"),
    ((*RUN, "--set", "ipo_bta=1"), "did you mean 'ipo_beta'?"),
    ((*RUN, "--set", "shots=many"), "--set shots: 'many' is not a whole number"),
    ((*RUN, "--set", "shots"), "--set shots: write KEY=VALUE"),
    ((*RUN, "--set", "=3"), "--set =3: write KEY=VALUE"),
    ((*RUN, "--set", "loss=dppo"), "loss is 'dppo', known: ipo, dpo"),
    ((*RUN, "--preset", "tny"), "unknown preset 'tny', did you mean 'tiny'?"),
    ((*RUN, "--init", "no/such"), "--init: no folder 'no/such'; give a folder of trained weights"),
    (("run", "--method", "fsop", "--task", "roleplay"), "unknown method 'fsop', did you mean 'fspo'?"),
    (("run", "--method", "fspo,bse", "--task", "roleplay"), "unknown method 'bse', did you mean 'base'?"),
    (("run", "--method", "fspo", "--task", "rolplay"), "unknown task 'rolplay', did you mean 'roleplay'?"),
    (("show", "orcale"), "unknown task, method, baseline or judge 'orcale', did you mean 'oracle'?"),
    (("validate", "rolplay"), "unknown task 'rolplay', did you mean 'roleplay'?"),
    (("ls", "--pack", "no/such"), "pack folder 'no/such' has none of tasks/, methods/, baselines/"),
    ((*RUN, "--set", "shots=[1"), "--set shots"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "wanted"), WRONG)
def test_wrong_input_is_2_and_one_sentence(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    code, out, err = shell(*argv)
    assert code == 2
    assert wanted in one_sentence(err)
    assert out == ""
    assert set(tmp_path.rglob("*")) == before  # nothing half-written


@pytest.mark.parametrize(
    "argv", [(), ("rn",), ("run",), ("ls", "weights"), (*RUN, "--limit", "0"), ("validate", "--shots", "-1")]
)
def test_a_command_line_that_does_not_parse_is_2(shell: Shell, argv: tuple[str, ...]) -> None:
    code, out, err = shell(*argv)
    assert code == 2
    assert out == ""
    assert err.startswith("usage: fspo-bench")


def test_a_limit_that_is_no_number_is_said_plainly(shell: Shell) -> None:
    _, _, err = shell(*RUN, "--limit", "x")
    assert "_positive" not in err


def test_a_bad_row_is_named_on_the_command_line(shell: Shell, tmp_path: Path) -> None:
    folder = rated_task(tmp_path / "rated")
    edit(folder / "preferences.jsonl", 17, chosen=None)
    code, _, err = shell("run", "--method", "base", "--task", folder)
    assert code == 2
    assert f"{folder / 'preferences.jsonl'}, line 17, field 'chosen'" in one_sentence(err)


def test_an_interruption_is_130_with_the_hint(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fspo_bench.verbs.packs.ls", interrupted)
    code, out, err = shell("ls")
    assert (code, out) == (130, "")
    assert err == "\nfspo-bench: interrupted; the same command goes on where it stopped\n"


def test_a_failure_is_1_and_no_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("fspo_bench.verbs.packs.ls", failing)
    code, _, err = shell("ls")
    assert code == 1
    assert one_sentence(err) == "failed: ZeroDivisionError: a bug (--debug shows where)"
    with pytest.raises(ZeroDivisionError):
        shell("ls", "--debug")


def test_debug_raises_user_errors_too(shell: Shell) -> None:
    with pytest.raises(UserError, match="unknown method 'fsop'"):
        shell("run", "--method", "fsop", "--task", "roleplay", "--debug")


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_closed_pipe_is_no_failure(unbuffered: str) -> None:
    """`fspo-bench ls | head -0`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "fspo_bench", "ls"], stdout=write, stderr=subprocess.PIPE, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fspo_bench.verbs.packs.ls", full)
    code, _, err = shell("ls")
    assert code == 1
    assert one_sentence(err).startswith("the disk is full; make room for ")


# --- ls ---


def listed(shell: Shell, *argv: object) -> list[dict[str, str]]:
    code, out, _ = shell("ls", *argv, "--json")
    assert code == 0
    rows: list[dict[str, str]] = json.loads(out)
    return rows


def test_ls_lists_every_kind_with_a_summary(shell: Shell, pack: Path) -> None:
    rows = {(r["kind"], r["name"]): r for r in listed(shell, "--pack", pack)}
    assert rows["task", "garden"] == {
        "kind": "task", "name": "garden", "pack": "theirs", "summary": "A made task.",
    }  # fmt: skip
    assert rows["method", "boom"]["summary"] == "Boom: it explodes."
    assert rows["method", "fspo"]["pack"] == rows["baseline", "base"]["pack"] == "fspo-bench"
    assert all(r["summary"] for r in rows.values())


def test_ls_for_people_names_the_origin_of_what_is_not_built_in(shell: Shell, pack: Path) -> None:
    lines = shell("ls", "--include-path", pack)[1].splitlines()
    assert "task      garden          A made task. [theirs]" in lines
    assert any(
        line.startswith("method    fspo            FSPO: few-shot") and "[" not in line for line in lines
    )


@pytest.mark.parametrize(
    ("what", "kind"),
    [("tasks", "task"), ("methods", "method"), ("baselines", "baseline"), ("packs", "pack")],
)
def test_ls_of_one_kind(shell: Shell, pack: Path, what: str, kind: str) -> None:
    rows = listed(shell, what, "--pack", pack)
    assert {r["kind"] for r in rows} == {kind}
    if what == "packs":
        assert {"kind": "pack", "name": "theirs", "pack": "theirs", "summary": str(pack)} in rows


def test_ls_survives_a_task_that_cannot_be_read(shell: Shell, pack: Path) -> None:
    (pack / "tasks" / "garden" / "task.yaml").write_text("summary: [")
    (row,) = [r for r in listed(shell, "tasks", "--pack", pack) if r["name"] == "garden"]
    assert "cannot be read" in row["summary"]


# --- show ---


def test_show_prints_the_card_or_the_docstring(shell: Shell, pack: Path) -> None:
    assert shell("show", "garden", "--pack", pack)[:2] == (0, "# The garden card\n\nÉté.\n")
    assert shell("show", pack / "tasks" / "garden")[1] == "# The garden card\n\nÉté.\n"
    assert shell("show", "boom", "--pack", pack)[:2] == (0, "Boom: it explodes.\n\nMore.\n")
    assert shell("show", pack / "methods" / "boom.py")[1] == "Boom: it explodes.\n\nMore.\n"
    value = json.loads(shell("show", "boom", "--pack", pack, "--json")[1])
    assert value == {"name": "boom", "text": "Boom: it explodes.\n\nMore."}


def test_show_of_a_task_without_a_card_prints_its_yaml(shell: Shell, made_task: Path) -> None:
    assert shell("show", made_task)[1] == made_task.joinpath("task.yaml").read_text()


def test_show_takes_the_packs_name_too(shell: Shell, pack: Path) -> None:
    assert shell("show", "theirs/garden", "--pack", pack)[:2] == (0, "# The garden card\n\nÉté.\n")


# --- validate ---


def test_validate_says_what_is_sound(shell: Shell, made_task: Path) -> None:
    code, out, _ = shell("validate", made_task, "--shots", 3)
    assert code == 0
    assert out == "made: sound (12 users, 12 questions, 60 answers, 4 test users with 3 shots)\n"
    _, out, _ = shell("validate", made_task, "--shots", 3, "--json")
    assert json.loads(out)["made"]["test users with 3 shots"] == 4


def test_validate_takes_every_task_when_none_is_named(shell: Shell, pack: Path) -> None:
    code, out, _ = shell("validate", "--pack", pack, "--shots", 3)
    assert code == 0
    names = [line.partition(":")[0] for line in out.splitlines()]
    assert names[-2:] == ["roleplay", "garden"]
    assert {"elix_easy", "reviews"} < set(names)


def test_validate_reports_tasks_of_one_name_in_two_packs(shell: Shell, pack: Path, tmp_path: Path) -> None:
    write_task(tmp_path / "others" / "tasks" / "garden")
    _, out, _ = shell("validate", "--pack", pack, "--pack", tmp_path / "others", "--shots", 3)
    assert [line.partition(":")[0] for line in out.splitlines()][-2:] == ["theirs/garden", "others/garden"]


def test_validate_is_2_for_a_leak(shell: Shell, made_task: Path) -> None:
    edit(made_task / "questions.jsonl", 2, prompt="What about thing 0?")
    code, out, err = shell("validate", made_task, "--shots", 3)
    assert (code, out) == (2, "")
    assert "leak: question 'q1' (test)" in one_sentence(err)


# --- cp ---


def test_cp_writes_the_file_and_says_what_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine.py"
    assert main(["cp", "fspo", str(target)]) == 0
    assert target.read_text() == (builtin_root() / "methods" / "fspo.py").read_text()
    assert f"fspo-bench run --method {target}" in capsys.readouterr().out
    assert main(["cp", "ipo", str(tmp_path)]) == 0
    assert (tmp_path / "ipo.py").is_file()


def test_cp_overwrites_nothing_and_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine.py"
    target.write_text("precious")
    for argv, says in [
        (["fspo", str(target)], "is there already"),
        (["fspo", str(tmp_path / "mine")], "must end in .py"),
        (["fspoo", str(tmp_path / "new.py")], "did you mean 'fspo'"),
    ]:
        assert main(["cp", *argv]) == 2
        assert says in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]


# --- run (what it asks of the library; the line itself is in tests/test_run.py) ---


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `run` was asked for, without doing it."""
    asked: list[Any] = []

    def run(request: Any, store: object) -> Any:
        asked.append(request)
        return a_record(task=request.task.name, method=request.method.name)

    monkeypatch.setattr("fspo_bench.grid.run", run)
    monkeypatch.setattr("fspo_bench.grid.planned", lambda rs, store: [Planned(r, False, None) for r in rs])
    return asked


def test_run_resolves_every_flag(shell: Shell, requests: list[Any], made_task: Path, tmp_path: Path) -> None:
    code, out, _ = shell(
        "run", "--method", "fspo", "--task", made_task, "--model", "hf/a/b", "--preset", "small", "--seed", 7,
        "--set", "lr=1e-4", "--set", "loss=dpo", "--set", "chat_template=false", "--set", "shots=3",
        "--limit", 2, "--init", made_task, "--output_path", tmp_path / "out", "--json",
    )  # fmt: skip
    (request,) = requests
    assert code == 0
    assert (request.preset.model, request.preset.lr, request.preset.shots) == ("hf/a/b", 1e-4, 3)
    assert request.preset.chat_template is False
    assert request.preset.test_users == 4  # the rest stays tiny's
    assert request.method.config.loss == "dpo"
    assert (request.seed, request.limit, request.init) == (7, 2, made_task)
    assert request.runs == tmp_path / "out"
    assert json.loads(out)["method"] == "fspo"


def test_run_does_every_method_on_every_task(
    shell: Shell, requests: list[Any], made_task: Path, pack: Path
) -> None:
    code, out, err = shell(
        "run", "--methods", "base,few_shot", "--tasks", f"{made_task},garden", "--pack", pack
    )
    assert code == 0
    assert err.splitlines()[-1] == "[4/4] garden / few_shot, 1 to go, ETA 0 s"
    done = [(r.task.name, r.method.name) for r in requests]
    assert done == [("made", "base"), ("made", "few_shot"), ("garden", "base"), ("garden", "few_shot")]
    assert "made  (model" in out
    assert "garden  (model" in out
    _, out, _ = shell("run", "--method", "base,few_shot", "--task", made_task, "--json")
    assert [r["method"] for r in json.loads(out)] == ["base", "few_shot"]


def test_run_checks_all_input_before_it_runs_any(shell: Shell, requests: list[Any], made_task: Path) -> None:
    assert shell("run", "--method", "base", "--task", f"{made_task},nowhere")[0] == 2
    assert shell("run", "--method", "base,nothing", "--task", made_task)[0] == 2
    assert requests == []


@pytest.mark.parametrize("depth", [0, 1])
def test_a_file_where_the_run_folder_should_go_is_named(
    shell: Shell, tiny_model: Path, tmp_path: Path, depth: int
) -> None:
    folder = rated_task(tmp_path / "rated")  # rated: no judge to fit first
    runs = tmp_path / "runs"
    blocking = [runs, runs / "rated"][depth]
    blocking.parent.mkdir(exist_ok=True)
    blocking.write_text("in the way")
    code, out, err = shell(
        "run", "--method", "base", "--task", folder, "--model", tiny_model, "--preset", "small",
        "--output-path", runs,
    )  # fmt: skip
    assert (code, out) == (2, "")
    said = one_sentence(err)
    assert f"cannot write the run folder '{runs}" in said
    assert "--output-path" in said
    assert blocking.read_text() == "in the way"


# --- imports ---


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["ls"], ["ls", "packs"], ["show", "fspo"]])
def test_light_verbs_import_nothing_heavy(argv: list[str]) -> None:
    script = (
        "import sys\nfrom fspo_bench.cli import main\n"
        f"try: code = main({argv!r})\nexcept SystemExit as stop: code = stop.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == "[] 0\n"
    assert done.stdout


@pytest.mark.parametrize("place", [("--output-path", "/home/me/runs"), ("--output_path=/home/me/runs",)])
def test_a_record_says_what_was_typed_and_not_where_it_went(
    monkeypatch: pytest.MonkeyPatch, place: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.argv", ["fspo-bench", "run", *place, "--set", "note=two words"])
    assert command() == "fspo-bench run --set 'note=two words'"
