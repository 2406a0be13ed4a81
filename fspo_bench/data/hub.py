"""Reading the rows of a published data set: from files in a folder where one is given, else from the Hub."""

from __future__ import annotations

import gzip
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fspo_bench.data.tasks import Split
from fspo_bench.data.texts import plain
from fspo_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
EXTRA = "`pip install 'fspo-bench[hub]'`"

Located = tuple[str, Any]  # where a row stands, for errors, and the row


def hub_rows(
    hub_id: str, config: str | None, split: str, files: Sequence[str], columns: Sequence[str],
    data_dir: Path | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The rows of one split, each cut to `columns`.

    Args:
        hub_id: The data set's id on the Hub.
        config: Its configuration there, if it has several.
        split: Its split there.
        files: Names of the file in `data_dir`, without suffix, the first that is there is read; a name
            may hold `*`, for a split in several files.
        columns: What each row must have.
        data_dir: The folder of a copy; None loads from the Hub.

    Raises:
        UserError: naming the file and line (or the hub id) and what is wrong, when rows are drawn.
    """
    if data_dir is None:
        yield from _cut(_from_hub(hub_id, config, split), columns, hub_id)
        return
    found = find_files(data_dir, files)
    if not found:
        raise UserError(
            f"data folder '{data_dir}' has no {files[0]} ({', '.join(SUFFIXES)}); put the files of {hub_id} "
            "there, or leave --data-dir out to load them from the Hub"
        )
    for file in found:
        yield from _cut(_from_file(file), columns, str(file))


def find_files(data_dir: Path, files: Sequence[str]) -> list[Path]:
    """The files of the first name and suffix that is there; none if there are none."""
    for name in files:
        for suffix in SUFFIXES:
            if found := sorted(file for file in data_dir.glob(name + suffix) if file.is_file()):
                return found
    return []


class OneSplit:
    """Keeps texts apart: each belongs to the split that claimed it first."""

    def __init__(self) -> None:
        self._owner: dict[str, Split] = {}

    def claim(self, split: Split, *texts: str) -> bool:
        """Take texts for a split; False, and nothing is taken, when one of them is another split's."""
        keys = [plain(text) for text in texts]
        if any(self._owner.get(key, split) != split for key in keys):
            return False
        self._owner.update(dict.fromkeys(keys, split))
        return True


def _cut(rows: Iterable[Located], columns: Sequence[str], source: str) -> Iterator[dict[str, Any]]:
    empty = True
    for where, row in rows:
        empty = False
        if not isinstance(row, dict):
            raise UserError(f"{where}: not a JSON object; a line is one row, {{column: value}}")
        if missing := [column for column in columns if column not in row]:
            raise UserError(
                f"{where}: no column {_quoted(missing)}, there are {_quoted(row)}; "
                "give the files as they were published"
            )
        yield {column: row[column] for column in columns}
    if empty:
        raise UserError(f"{source}: no rows; give the files as they were published")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _from_hub(hub_id: str, config: str | None, split: str) -> Iterator[Located]:
    """Streamed, data only: no code of the data set's author runs here."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise UserError(
            f"{hub_id} is read with the package `datasets`, which is not installed: install the extra "
            f"{EXTRA}, or give --data-dir with the files"
        ) from None
    try:
        rows = datasets.load_dataset(hub_id, config, split=split, streaming=True, trust_remote_code=False)
        for row in rows:
            yield hub_id, row
    except Exception as error:  # its own, the HTTP library's and the file formats': no common base
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{hub_id}, split '{split}', could not be read from the Hub ({reason}): check the connection and "
            f"the extra {EXTRA}, or give --data-dir with the files"
        ) from None


def _from_file(file: Path) -> Iterator[Located]:
    if file.suffix == ".csv":
        return _from_csv(file)
    if file.suffix == ".parquet":
        return _from_parquet(file)
    return _from_jsonl(file)


def _from_jsonl(file: Path) -> Iterator[Located]:
    for number, line in enumerate(_lines(file), 1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            yield where, json.loads(line.rstrip(b"\r\n"))
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as raw:
        stream: Iterable[bytes] = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        try:
            yield from stream
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise UserError(f"{file}: not a gzip file, or cut short; download it again") from None


def _from_csv(file: Path) -> Iterator[Located]:
    import pandas as pd

    try:
        # Only an empty cell is missing: the words "None" and "NA" may be a person's.
        for chunk in pd.read_csv(file, chunksize=10_000, keep_default_na=False, na_values=[""]):
            if not isinstance(chunk.index, pd.RangeIndex):  # pandas took the first cells for an index
                raise ValueError("line 2 has more cells than the header")
            yield from ((str(file), row) for row in _records(chunk))
    except ValueError as error:  # pandas' own errors and UnicodeDecodeError are ValueErrors
        raise UserError(f"{file}: not CSV in UTF-8 ({str(error).strip().splitlines()[0]})") from None


def _from_parquet(file: Path) -> Iterator[Located]:
    import pandas as pd

    try:
        frame = pd.read_parquet(file)
    except ImportError:
        raise UserError(
            f"{file} needs the package `pyarrow`: install the extra {EXTRA}, or give the file as .jsonl"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: not a parquet file ({str(error).splitlines()[0]})") from None
    yield from ((str(file), row) for row in _records(frame))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None where a cell is missing."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in records]
