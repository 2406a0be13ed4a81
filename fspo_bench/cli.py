"""The command line: what may be typed. What each verb does is in `verbs`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fspo_bench import __version__, team
from fspo_bench.errors import Stopped, UserError
from fspo_bench.verbs import exporting, hub, packs, results, running, serving, synth_report, synthesis

DESCRIPTION = "Measure how well language models personalise to real people."
RESUME_HINT = "interrupted; the same command goes on where it stopped"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one verb; 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        with team.joined() as leads:
            code: int | None = arguments.run(arguments) if leads else team.follow()
        sys.stdout.flush()
        return code or 0
    except (UserError, Stopped) as error:
        if arguments.debug:
            raise
        print(f"fspo-bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print(f"\nfspo-bench: {RESUME_HINT}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fspo-bench ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if arguments.debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            from fspo_bench.store import home

            print(f"fspo-bench: the disk is full; make room for {home()} and the runs, and give the same "
                  "command again", file=sys.stderr)  # fmt: skip
            return 1
        print(f"fspo-bench: failed: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument("--pack", "--include-path", action="append", default=[], metavar="DIR",
                            help="a further folder with tasks/, methods/, baselines/, judges/")  # fmt: skip
    everywhere.add_argument("--json", action="store_true", help="print JSON instead of a table")
    everywhere.add_argument("--debug", action="store_true", help="show tracebacks")
    parser = argparse.ArgumentParser(prog="fspo-bench", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _run_verbs(subparsers, everywhere)
    _result_verbs(subparsers, everywhere)
    _pack_verbs(subparsers, everywhere)
    _other_tools_verbs(subparsers, everywhere)
    return parser


Verbs = Any  # argparse names no public type for what `add_subparsers` gives


def _run_verbs(subparsers: Verbs, everywhere: argparse.ArgumentParser) -> None:
    """Verbs that train and answer."""
    verb = subparsers.add_parser("run", parents=[everywhere], help="train, answer, judge and count")
    verb.add_argument(
        "--method", "--methods", required=True, metavar="M[,M...]", help="names, .py files, or all"
    )
    verb.add_argument("--task", "--tasks", required=True, metavar="T[,T...]", help="names, folders, or all")
    verb.add_argument(
        "--model",
        help="smollm2-135m, hf/ORG/NAME, a folder; openai/NAME[@URL], vllm/NAME (default: the preset's)",
    )
    verb.add_argument("--preset", default="cpu", help="tiny, cpu (default), gpu or paper")
    verb.add_argument("--seed", type=int, default=0, help="seed of training (the test episodes never change)")
    verb.add_argument("--seeds", type=_seeds, metavar="S[,S...]", help="several, in place of --seed")
    verb.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the method or preset"
    )
    _data_flags(verb)
    verb.add_argument("--limit", type=_positive, metavar="N", help="only N test users (a partial run)")
    verb.add_argument("--init", metavar="DIR", help="start from trained weights: 'released' or a folder")
    verb.add_argument(
        "--output-path", "--output_path", default="runs", metavar="DIR", help="where runs go (default: runs)"
    )
    _judge_flags(verb)
    _dry_run_flag(verb)
    _executor_flags(verb)
    verb.set_defaults(run=running.run)

    verb = subparsers.add_parser(
        "reproduce", parents=[everywhere], help="the paper's tables run again, its claims tested"
    )
    verb.add_argument(
        "tables", metavar="TABLE[,TABLE...]", help="roleplay, elix, reviews, ablation, diversity"
    )
    verb.add_argument("--preset", default="cpu", help="tiny, cpu (default), gpu or paper")
    verb.add_argument(
        "--model",
        help="smollm2-135m, hf/ORG/NAME, a folder; openai/NAME[@URL], vllm/NAME (default: the preset's)",
    )
    verb.add_argument(
        "--seeds", type=_seeds, default=[0], metavar="S[,S...]", help="of training (default: 0)"
    )
    verb.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every row"
    )
    verb.add_argument("--strict", action="store_true", help="exit 1 unless every claim holds")
    verb.add_argument(
        "--output-path", "--output_path", default="runs", metavar="DIR", help="where runs go (default: runs)"
    )
    _data_flags(verb)
    _judge_flags(verb)
    _dry_run_flag(verb)
    _executor_flags(verb)
    verb.set_defaults(run=running.reproduce)


def _result_verbs(subparsers: Verbs, everywhere: argparse.ArgumentParser) -> None:
    """Verbs that look at results."""
    verb = subparsers.add_parser("score", parents=[everywhere], help="judge finished runs by another judge")
    verb.add_argument("runs", nargs="+", metavar="RUN", help="folders or ids")
    verb.add_argument("--task", metavar="DIR", help="the runs' task, where it is in no pack")
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    _judge_flags(verb)
    _dry_run_flag(verb)
    _data_flags(verb)
    verb.set_defaults(run=results.score)

    verb = subparsers.add_parser(
        "submit", parents=[everywhere], help="add finished runs to the leaderboard's records, judged again"
    )
    verb.add_argument("runs", nargs="+", metavar="RUN", help="folders or ids")
    verb.add_argument("--task", metavar="DIR", help="the runs' task, where it is in no pack")
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    _leaderboards_flag(verb)
    _data_flags(verb)
    verb.set_defaults(run=results.submit)

    verb = subparsers.add_parser("leaderboard", parents=[everywhere], help="write the tables of the records")
    verb.add_argument("--check", action="store_true", help="write nothing; exit 1 where a table differs")
    verb.add_argument(
        "--against", type=Path, metavar="CSV", help="write nothing; print what changes since then"
    )
    verb.add_argument(
        "--html", type=Path, metavar="DIR", help="write the page: tables, figures, every answer"
    )
    _leaderboards_flag(verb)
    _data_flags(verb)
    verb.set_defaults(run=results.leaderboard)

    verb = subparsers.add_parser("export", parents=[everywhere], help="a run in other tools' files")
    verb.add_argument("name", metavar="RUN", help="a folder or an id")
    verb.add_argument("--to", required=True, choices=["alpaca-eval", "lm-eval", "csv"])
    verb.add_argument("--out", required=True, type=Path, metavar="DIR")
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    verb.add_argument("--task", metavar="DIR", help="the run's task, where it is in no pack")
    _data_flags(verb)
    verb.set_defaults(run=results.export)

    verb = subparsers.add_parser("judge-card", parents=[everywhere], help="how far to believe a judge")
    verb.add_argument("--task", "--tasks", required=True, metavar="T[,T...]", help="names or folders")
    verb.add_argument("--pairs", type=_positive, metavar="N", help="labelled pairs (default: the judge's)")
    verb.add_argument("--out", type=Path, metavar="DIR", help="also keep each card as DIR/TASK/JUDGE.json")
    _judge_flags(verb)
    _dry_run_flag(verb)
    _data_flags(verb)
    verb.set_defaults(run=results.judge_card)

    verb = subparsers.add_parser("compare", parents=[everywhere], help="paired difference of finished runs")
    verb.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders or ids; the first against each other one"
    )
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    verb.set_defaults(run=results.compare)

    verb = subparsers.add_parser("serve", parents=[everywhere], help="print the command that serves a run")
    verb.add_argument("name", metavar="RUN", help="a folder or an id")
    verb.add_argument("--start", action="store_true", help="and give it: needs vLLM (extra vllm)")
    verb.add_argument("--port", type=_positive, default=8000, help="default: 8000")
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    verb.set_defaults(run=serving.serve)


def _pack_verbs(subparsers: Verbs, everywhere: argparse.ArgumentParser) -> None:
    """Verbs about tasks, methods and judges."""
    verb = subparsers.add_parser(
        "cp", parents=[everywhere], help="copy a method, to edit it and run the copy"
    )
    verb.add_argument("name", help="a method or baseline")
    verb.add_argument("destination", type=Path, metavar="FILE.py")
    verb.set_defaults(run=packs.cp)

    verb = subparsers.add_parser("new-task", parents=[everywhere], help="make a task of your own preferences")
    verb.add_argument("file", type=Path, help=".jsonl, .jsonl.gz, .csv or .parquet, a preference a row")
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="the task's folder")
    for column in ("user", "prompt", "chosen", "rejected"):
        verb.add_argument(f"--{column}", default=column, metavar="COLUMN", help=f"default: {column}")
    verb.add_argument("--test-share", type=float, default=0.2, help="of users and of prompts (default: 0.2)")
    verb.add_argument("--min-preferences", type=_positive, default=5, metavar="N",
                      help="drop users with fewer (default: 5)")  # fmt: skip
    verb.add_argument("--seed", type=int, default=0, help="of the splits")
    verb.add_argument("--license", default="not stated", help="of the texts, for the data card")
    verb.set_defaults(run=packs.new_task)

    verb = subparsers.add_parser("synth", parents=[everywhere], help="make a task with language models")
    verb.add_argument("domain", metavar="DOMAIN", help="a domain.yaml, or a task that has one")
    verb.add_argument("--model", required=True, action="append", metavar="openai/NAME[@BASE_URL]",
                      help="several answer as an ensemble, the first does all else")  # fmt: skip
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="the task's folder")
    verb.add_argument("--without", default="", metavar="PART[,PART...]",
                      help="leave out: views, ensemble, steering, refinement, both_orders")  # fmt: skip
    verb.add_argument("--scale", type=float, default=1.0, metavar="X",
                      help="times the domain's users and questions (default: 1)")  # fmt: skip
    verb.add_argument("--shard", default="1/1", metavar="I/N", help="make part I of N")
    verb.add_argument("--concurrency", type=_positive, default=16, metavar="N",
                      help="requests under way at a time, for each model (default: 16)")  # fmt: skip
    verb.add_argument("--max-cost", type=float, metavar="USD", help="stop before more is spent")
    _dry_run_flag(verb)
    verb.set_defaults(run=synthesis.synth)

    verb = subparsers.add_parser("ls", parents=[everywhere], help="list what the packs offer")
    verb.add_argument(
        "what", nargs="?", choices=["tasks", "methods", "baselines", "judges", "packs"], help="only these"
    )
    verb.set_defaults(run=packs.ls)

    verb = subparsers.add_parser(
        "synth-report", parents=[everywhere], help="how diverse, firm and personal a task's preferences are"
    )
    verb.add_argument("task", metavar="TASK", help="a name or a folder, also of an unfinished synthesis")
    verb.add_argument(
        "--out", type=Path, metavar="DIR", help="write report.md, report.json and figures there"
    )
    verb.add_argument(
        "--embedder", default="minilm-l6", metavar="ID",
        help="minilm-l6 (default), a folder or an id that sentence-transformers opens, as BAAI/bge-m3",
    )  # fmt: skip
    _data_flags(verb)
    verb.set_defaults(run=synth_report.synth_report)

    verb = subparsers.add_parser(
        "show", parents=[everywhere], help="a task's card, a method's description or a judge's files"
    )
    verb.add_argument("name")
    verb.set_defaults(run=packs.show)

    verb = subparsers.add_parser("validate", parents=[everywhere], help="check tasks for leaks and faults")
    verb.add_argument("name", nargs="*", help="names or folders (default: every task)")
    verb.add_argument(
        "--shots", type=_positive, help="that every test user must afford (default: what the task promises)"
    )
    verb.add_argument("--model", help="also measure prompts in tokens of this model")
    _data_flags(verb)
    verb.set_defaults(run=packs.validate)


def _other_tools_verbs(subparsers: Verbs, everywhere: argparse.ArgumentParser) -> None:
    """Verbs that hand tasks and runs to other tools and to the Hub."""
    verb = subparsers.add_parser("push", parents=[everywhere], help="a trained run for the Hugging Face Hub")
    verb.add_argument("name", metavar="RUN", help="a folder or an id")
    verb.add_argument("--to", metavar="OWNER/NAME", help="also upload it there (new ones are private)")
    verb.add_argument("--out", type=Path, metavar="DIR", help="the folder to write (default: RUN/push)")
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    verb.add_argument("--task", metavar="DIR", help="the run's task, where it is in no pack")
    _data_flags(verb)
    verb.set_defaults(run=hub.push)

    verb = subparsers.add_parser("export-tasks", parents=[everywhere], help="tasks in other tools' files")
    verb.add_argument("out", type=Path, metavar="DIR", help="where the files go")
    verb.add_argument("--to", required=True, choices=["lm-eval", "datasets"])
    verb.add_argument("--task", "--tasks", default="all", metavar="T[,T...]", help="names, folders, or all")
    verb.add_argument("--preset", default="cpu", help="whose test users and pairs (default: cpu)")
    verb.add_argument("--shots", type=_positive, metavar="N", help="of a user (default: the preset's)")
    _data_flags(verb)
    verb.set_defaults(run=exporting.export_tasks)

    verb = subparsers.add_parser(
        "tax", parents=[everywhere], help="what training cost in general ability, by lm-eval"
    )
    verb.add_argument("name", metavar="RUN", help="a folder or an id")
    verb.add_argument(
        "--tasks", required=True, metavar="T[,T...]", help="of lm-eval: hellaswag, arc_easy, ..."
    )
    verb.add_argument("--tasks-from", type=Path, metavar="DIR", help="further task files in lm-eval's form")
    verb.add_argument("--limit", type=_positive, metavar="N", help="only N documents of each task")
    verb.add_argument(
        "--apply-chat-template", "--apply_chat_template", action="store_true", help="ask as in a chat"
    )
    verb.add_argument("--output-path", "--output_path", default="runs", metavar="DIR", help="where runs are")
    verb.set_defaults(run=exporting.tax)


def _data_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--source", choices=["bundled", "micro", "hub"],
        help="the task's own texts, their micro version, or published data (default: the preset's)",
    )  # fmt: skip
    verb.add_argument(
        "--data-dir", "--data_dir", type=Path, metavar="DIR", help="files of the published data"
    )


def _leaderboards_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--out", type=Path, default=Path("leaderboards"), metavar="DIR",
        help="the folder with records/ and the tables (default: leaderboards)",
    )  # fmt: skip


def _judge_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--judge", default="offline", metavar="J", help="a name or a folder (default: offline)")
    verb.add_argument(
        "--judge-model", default="", metavar="M",
        help="in place of the judge's own: openai/NAME (any compatible server), hf/ORG/NAME, vllm/NAME, ...",
    )  # fmt: skip
    verb.add_argument("--max-cost", type=float, metavar="USD", help="stop before more is spent on the judge")


def _dry_run_flag(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--dry-run", action="store_true", help="print what there is to do, its time and price; do nothing"
    )


def _executor_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--executor", choices=["local", "ray", "print"], default="local",
        help="one run after the other here, many by Ray, or only print a command for each (default: local)",
    )  # fmt: skip
    verb.add_argument(
        "--resources", type=_resources, default={}, metavar="NAME=N[,NAME=N...]",
        help="of each run by Ray: num_cpus=1 (default), num_gpus=1, or any that the cluster names",
    )  # fmt: skip


def _resources(text: str) -> dict[str, float]:
    try:
        return {name: float(number) for name, number in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=NUMBER, as num_gpus=1") from None


def _seeds(text: str) -> list[int]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}' is not whole numbers with commas between them, as 0,1,2")
    return [int(part) for part in text.split(",")]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)
