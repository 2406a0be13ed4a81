"""Reading a person's own file of preferences: JSON lines, csv or parquet; every error names file and line."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fspo_bench.errors import UserError, did_you_mean

Row = dict[str, Any]


class Columns(NamedTuple):
    """What the file calls its four columns."""

    user: str = "user"
    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"


class Table(NamedTuple):
    """The four columns."""

    users: list[str]
    prompts: list[str]
    chosen: list[str]
    rejected: list[str]


def _at(file: Path, line: int, problem: str, name: str = "") -> UserError:
    """An error that names the place (in parquet, the row)."""
    unit = "row" if file.suffix.lower() == ".parquet" else "line"
    cell = f", field '{name}'" if name else ""
    return UserError(f"{file}, {unit} {line}{cell}: {problem}")


def read_preferences(file: Path, columns: Columns) -> Table:
    """The four columns of the file, every cell checked."""
    suffix = next((s for s in READERS if file.name.lower().endswith(s)), "")
    if not suffix:
        raise UserError(f"{file}: unknown suffix '{file.suffix}'{did_you_mean(file.suffix, READERS)}")
    if not file.is_file():
        raise UserError(f"no file '{file}'")
    places: list[int] = []
    cells: tuple[list[Any], ...] = ([], [], [], [])
    for place, row in READERS[suffix](file):
        places.append(place)
        for name, column in zip(columns, cells, strict=True):
            if name not in row:
                where = 1 if suffix == ".csv" else place
                raise _at(file, where, f"missing{did_you_mean(name, row)}", name)
            column.append(row[name])
    if not places:
        raise UserError(f"{file}: no rows")
    cells[0][:] = [_id(value) for value in cells[0]]
    bad = [next((n for n, value in enumerate(column) if fault(value)), len(places)) for column in cells]
    if (first := min(bad)) < len(places):
        which = bad.index(first)
        raise _at(file, places[first], fault(cells[which][first]), columns[which])
    return Table(*cells)


def _id(value: object) -> object:
    """A number as text."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return str(value) if number else value


def fault(value: object) -> str:
    """What keeps a value from being text, or nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "empty"
    if not isinstance(value, str):
        return f"not text but {type(value).__name__}"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "not Unicode text (half of a surrogate pair)"
    return ""


def _lines(file: Path) -> Iterator[str]:
    """The decoded lines of a file, without a byte order mark."""
    number = 0
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _at(file, number, f"not UTF-8 (byte {error.start + 1} of the line)") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None


def _jsonl(file: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _at(file, number, f"not JSON ({error.msg} at column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits, endless brackets
            raise _at(file, number, f"not JSON ({error})") from None
        if not isinstance(row, dict):
            raise _at(file, number, f"not a JSON object but {type(row).__name__}")
        yield number, row


def _csv(file: Path) -> Iterator[tuple[int, Row]]:
    """Rows under the line they start on; a quoted cell may run over several."""
    limit, start = csv.field_size_limit(2**31 - 1), 1
    try:
        reader = csv.reader(_lines(file), strict=True)
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise _at(file, 1, "two columns have the same name")
        start = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise _at(file, start, f"{len(cells)} cells, where the header has {len(header)}")
            if cells:
                yield start, dict(zip(header, cells, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise _at(file, start, f"not CSV ({error})") from None
    finally:
        csv.field_size_limit(limit)


def _parquet(file: Path) -> Iterator[tuple[int, Row]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(f"{file}: reading parquet needs one more package: pip install pyarrow") from None
    number = 1
    try:
        for batch in parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                yield number, row
                number += 1
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise _at(file, number, f"not parquet ({str(error).splitlines()[0]})") from None


READERS: Mapping[str, Callable[[Path], Iterator[tuple[int, Row]]]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
