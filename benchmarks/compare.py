"""Ours beside other tools, in turn, with equal results demanded first: `python benchmarks/compare.py`.

docs/performance.md says how to read the table and what is compared with what.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Row
    from benchmarks.sides import Settings

ROWS = ("train", "memory", "reference", "generation", "startup")
MEMORY_PAIRS = (1, 8)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 when a row was aborted because the sides were not equal."""
    arguments = _parser().parse_args(argv)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from benchmarks.report import header, table, write

    rows = []
    for row in _measured(arguments):
        print(" | ".join(cell for cell in row.cells() if cell), file=sys.stderr, flush=True)
        rows.append(row)
    given = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "benchmarks/compare.py", *given])
    text = header(command, arguments.device, _dtype_name(arguments)) + "\n\n" + table(rows)
    print(text)
    if arguments.out:
        write(arguments.out, text)
    return int(any(row.failed for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, prog="compare.py")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {','.join(ROWS)} (default: all)")
    parser.add_argument("--shape", default="smollm2", help="smollm2, 4m or tiny; several with commas")
    parser.add_argument(
        "--k", type=_numbers, default=(1, 4, 8), help="pairs behind one context (default: 1,4,8)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both sides in turn (default: 5)")
    parser.add_argument("--context", type=int, help="tokens of the context (smollm2: 640, 4m: 128)")
    parser.add_argument("--answer", type=int, help="middle length of an answer (smollm2: 80, 4m: 36)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: float32, cuda bfloat16")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write here, between its result marks")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(k) for k in text.split(","))


def _dtype_name(arguments: argparse.Namespace) -> str:
    return str(arguments.dtype or ("float32" if arguments.device == "cpu" else "bfloat16"))


def _measured(arguments: argparse.Namespace) -> Iterator[Row]:
    wanted = _chosen("--rows", arguments.rows, ROWS)
    if set(wanted) - {"startup"}:
        for settings in _settings(arguments):
            yield from _of_shape(wanted, settings)
    if "startup" in wanted:
        from benchmarks.startup import rows

        yield from rows(arguments.rounds)


def _settings(arguments: argparse.Namespace) -> list[Settings]:
    import torch
    import transformers

    from benchmarks.shapes import SHAPES
    from benchmarks.sides import Settings

    transformers.logging.set_verbosity_error()
    dtype = getattr(torch, _dtype_name(arguments))
    return [
        Settings(SHAPES[name], arguments.k, arguments.rounds, arguments.context, arguments.answer,
                 arguments.device, dtype)
        for name in _chosen("--shape", arguments.shape, tuple(SHAPES))
    ]  # fmt: skip


def _of_shape(wanted: list[str], settings: Settings) -> Iterator[Row]:
    from benchmarks import generation, memory, training

    for pairs in settings.pairs if "train" in wanted else ():
        yield from training.train(settings, pairs)
    for pairs in MEMORY_PAIRS if "memory" in wanted else ():
        yield from memory.rows(settings, pairs)
    for pairs in settings.pairs if "reference" in wanted else ():
        yield from training.reference(settings, pairs)
    if "generation" in wanted:
        yield from generation.rows(settings)


def _chosen(option: str, value: str, known: tuple[str, ...]) -> list[str]:
    names = value.split(",")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"compare: {option} {unknown[0]}: give some of {','.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
