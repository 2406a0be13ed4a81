"""One content-addressed store for everything expensive: key = hash of all that can change the value.

Small values are JSON files, trained weights and converted models are folders. Writes go to a
temporary name and are renamed into place, so a killed process never leaves half a value.
Nothing is indexed: `rm -r` clears, `tar` shares. Only folders that grow in place are locked (`alone`).
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from fspo_bench.progress import say


def home() -> Path:
    """`FSPO_BENCH_HOME`, or the platform's cache folder."""
    if path := os.environ.get("FSPO_BENCH_HOME"):
        return Path(path).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fspo-bench"


def canonical(value: Any) -> str:
    """The one JSON spelling of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex; a file that has not changed is read once."""
    stat = path.stat()
    return _file_sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, changed: int) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _beside(path)
    try:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> Path:
    """A name that no other process uses, on the same file system."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


class Store:
    """`get`/`put` JSON values by key; `folder` builds a directory once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home() / "store"

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.json"

    def get(self, key: str) -> Any | None:
        try:
            return json.loads(self._path(key).read_text(encoding="utf-8"))["value"]
        except FileNotFoundError:
            return None

    def has(self, key: str) -> bool:
        return self._path(key).is_file()

    def put(self, key: str, value: Any) -> None:
        write_atomic(self._path(key), canonical({"value": value}))

    def has_folder(self, key: str) -> bool:
        return (self.root / "folders" / key).is_dir()

    def folder_path(self, key: str) -> Path:
        """Where a finished folder lies (it exists exactly when it is complete)."""
        return self.root / "folders" / key

    def partial_path(self, key: str) -> Path:
        """Where an unfinished folder keeps what a resumed process can use."""
        return self.root / "partial" / key

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Among processes that share this store, one at a time; the lock of a killed one is free."""
        from filelock import FileLock, Timeout

        file = self.root / "locks" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("waiting for another process that makes the same")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def finish_folder(self, key: str) -> Path:
        """Move the partial folder into place."""
        final = self.folder_path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # another process was faster; its content is the same by key
            shutil.rmtree(self.partial_path(key))
        else:
            self.partial_path(key).replace(final)
        return final


@contextmanager
def building(final: Path) -> Iterator[Path]:
    """A scratch folder beside `final`, renamed to it on success and removed on failure."""
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = _beside(final)
    scratch.mkdir()
    try:
        yield scratch
        try:
            scratch.replace(final)
        except OSError:
            if not final.is_dir():  # else another process was faster with the same content
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
