"""The files of a synthesis: stages that grow window by window, a journal of answers, rows read from disk.

Nothing here holds a whole stage in memory. A stage grows in `NAME.jsonl.part`; `NAME.state.json` says how
many of its items are in there and how many bytes they take, so what a killed process wrote beyond that is
cut off. Answers of the window under way are in `calls.NAME.jsonl`; they are not asked for again.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from fspo_bench.errors import Stopped, UserError
from fspo_bench.store import write_atomic

Row = dict[str, Any]
Output = tuple[str, Row]
"""A row and the file that it belongs to."""

_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `of`."""

    number: int = 1
    of: int = 1

    def range(self, items: int) -> range:
        """Its items, so that all parts in turn are all items."""
        return range((self.number - 1) * items // self.of, self.number * items // self.of)

    def file(self, stage: str, number: int | None = None) -> str:
        """A stage's file without `.jsonl`: the part's, where there are several."""
        return stage if self.of == 1 else f"{stage}.{number or self.number}-of-{self.of}"


class Journal:
    """Answers of the window under way, by key; each is on disk before the next is counted."""

    def __init__(self, file: Path) -> None:
        """Read what is there.

        Raises:
            Stopped: another process is at work on it.
        """
        self._lock = Lock()
        self._out = file.open("ab")
        _claim(self._out, file)
        self._known: dict[str, Any] = {}
        whole = 0
        with file.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # killed in the middle of it
                    break
                key, value = json.loads(line)
                self._known[key] = value
                whole += len(line)
        self._out.truncate(whole)

    def get(self, key: str) -> Any | None:
        return self._known.get(key)

    def has(self, key: str) -> bool:
        return key in self._known

    def put(self, key: str, value: Any) -> None:
        with self._lock:
            self._known[key] = value
            self._out.write(json.dumps([key, value]).encode() + b"\n")
            self._out.flush()

    def clear(self) -> None:
        """The window is written; its answers are not needed again."""
        self._known.clear()
        self._out.truncate(0)

    def close(self) -> None:
        """No more answers come."""
        self._out.close()


def _claim(out: BinaryIO, file: Path) -> None:
    """Keep a second process from the same part, where the system has locks; they go with the process."""
    try:
        import fcntl

        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Stopped(f"'{file}' is in use: another process makes this part; let it end") from None
    except (ImportError, OSError):
        return


class Growing:
    """The files of a stage while they grow; `done` counts the items that are in them."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        """`files`: names without `.jsonl`; the first is the stage's own and the last to be finished."""
        self.folder, self.files = folder, files
        state = read_json(self._state) or {"done": 0, "bytes": {}}
        self.done: int = state["done"]
        self._out: dict[str, BinaryIO] = {}
        self._bytes: dict[str, int] = {file: state["bytes"].get(file, 0) for file in files}

    @property
    def _state(self) -> Path:
        return self.folder / f"{self.files[0]}.state.json"

    def _part(self, file: str) -> Path:
        return self.folder / f"{file}.jsonl.part"

    def add(self, rows: Iterable[Output], items: int) -> None:
        """The rows of the next items; after it they are there for good."""
        for file, row in rows:
            self._bytes[file] += self._open(file).write(_encode(row).encode() + b"\n")
        for out in self._out.values():
            out.flush()
        self.done += items
        write_atomic(self._state, json.dumps({"done": self.done, "bytes": self._bytes}))

    def _open(self, file: str) -> BinaryIO:
        if file not in self._out:
            part = self._part(file)
            part.touch()
            os.truncate(part, self._bytes[file])
            self._out[file] = part.open("ab")
        return self._out[file]

    def finish(self) -> None:
        """Give the files their names, the stage's own last: where it stands the stage is complete."""
        for out in self._out.values():
            out.close()
        for file in reversed(self.files):
            final = self.folder / f"{file}.jsonl"
            if self._part(file).exists():
                os.truncate(self._part(file), self._bytes[file])
                self._part(file).replace(final)
            elif not final.exists():
                write_atomic(final, "")


def merge(folder: Path, stage: str, shard: Shard) -> bool:
    """Put a stage's parts together in order; False while some are missing."""
    parts = [folder / f"{shard.file(stage, n)}.jsonl" for n in range(1, shard.of + 1)]
    final = folder / f"{stage}.jsonl"
    if final.exists():
        return True
    if not all(part.exists() for part in parts):
        return False
    scratch = folder / f"{stage}.jsonl.{shard.number}.merging"
    try:
        with scratch.open("wb") as out:
            for part in parts:
                with part.open("rb") as source:
                    while block := source.read(1 << 20):
                        out.write(block)
    except FileNotFoundError:  # another process has put them together and taken them away
        scratch.unlink(missing_ok=True)
        return final.exists()
    scratch.replace(final)
    return True


def sweep(folder: Path, files: Sequence[str], shard: Shard) -> None:
    """Take away what a complete stage has no use for: a shard's state and journal, and merged parts."""
    own = shard.file(files[0])
    left = [folder / f"{own}.state.json", journal_of(folder, own)]
    if shard.of > 1 and (folder / f"{files[0]}.jsonl").exists():
        left += [folder / f"{shard.file(file, n)}.jsonl" for file in files for n in range(1, shard.of + 1)]
    for file in left:
        file.unlink(missing_ok=True)


def journal_of(folder: Path, stage: str) -> Path:
    """Where the answers of a stage's window are."""
    return folder / f"calls.{stage}.jsonl"


class Lines:
    """A file's rows by number, read when asked for: eight bytes of memory a row."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._starts = array("q", [0])
        with file.open("rb") as lines:
            for line in lines:
                self._starts.append(self._starts[-1] + len(line))
        self._in = file.open("rb")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Row:
        return self.some(number, number + 1)[0]

    def some(self, start: int, end: int) -> list[Row]:
        """Rows `start` to `end` (without it)."""
        self._in.seek(self._starts[start])
        block = self._in.read(self._starts[end] - self._starts[start])
        return [json.loads(line) for line in block.splitlines()]


def rows_of(file: Path) -> Iterator[Row]:
    """A file's rows in turn."""
    with file.open("rb") as lines:
        yield from map(json.loads, lines)


def read_json(file: Path) -> Any | None:
    """A small JSON file; None where there is none.

    Raises:
        UserError: it is there and is no JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise UserError(f"{file}: not JSON; remove the folder and make the task anew") from None
