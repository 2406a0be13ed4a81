"""Files of preferences: every format, columns of other names, and what is broken named by line and field."""

import gzip
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fspo_bench.data.new_task import Columns
from tests.data.made_preferences import DATA, NAMES, Cells, grid, jsonl, made, make, refused, sound, write_csv


def write_gz(file: Path, rows: Sequence[Cells]) -> Path:
    file.write_bytes(gzip.compress(jsonl(file.with_name("plain.jsonl"), rows).read_bytes()))
    return file


def write_parquet(file: Path, rows: Sequence[Cells]) -> Path:
    pyarrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(
        {name: list(cells) for name, cells in zip(NAMES, zip(*rows, strict=True), strict=True)}
    )
    parquet.write_table(table, file, row_group_size=7)
    return file


@pytest.mark.parametrize(
    ("name", "write"), [("a.csv", write_csv), ("a.JSONL.gz", write_gz), ("a.parquet", write_parquet)]
)
def test_every_format_gives_the_same_task(
    tmp_path: Path, name: str, write: Callable[[Path, Sequence[Cells]], Path]
) -> None:
    rows = [(int(u[1:]), f'{p}, "so"\n☃', c + "\u2028\r\nÜ", r) for u, p, c, r in grid()]
    one = make(jsonl(tmp_path / "a.jsonl", rows), out="one")
    two = make(write(tmp_path / name, rows), out="two")
    assert sound(one).users.keys() == {str(n) for n in range(12)}
    assert all((one.out / n).read_bytes() == (two.out / n).read_bytes() for n in DATA)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    refused(tmp_path / "a.parquet", "pip install pyarrow")


def test_parquet_errors_name_the_row(tmp_path: Path) -> None:
    rows: list[Cells] = [*grid(), ("u0", "Thing 0?", None, "x")]
    refused(write_parquet(tmp_path / "a.parquet", rows), "a.parquet, row 181, field 'chosen': empty")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    refused(tmp_path / "b.parquet", "not parquet")


def test_columns_may_have_other_names_and_company(tmp_path: Path) -> None:
    names = ("who", "question", "better", "worse", "when")
    lines = [json.dumps(dict(zip(names, [*row, 3], strict=True))) for row in grid()]
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\n\n")  # as Windows writes it
    sound(make(file, columns=Columns(*names[:4])))
    refused(file, "line 1, field 'user': missing", out="again")


def test_ids_and_texts_may_be_any_unicode(tmp_path: Path) -> None:
    ids = ["Zoë", "李", "👩‍🚀", "a b", " a", "A", "a", "x\x00y", "x\x00z", "\u2028", "7", "-1.5"]
    ids[9] = "l\u2028l"
    given: list[Any] = [*ids[:10], 7, -1.5]
    rows = [(given[int(u[1:])], p + "\x00\u2028🙂", c + "\x85", r) for u, p, c, r in grid()]
    _, task = made(tmp_path, rows)
    assert set(task.users) == set(ids)
    assert all(q.prompt.endswith("\x00\u2028🙂") for q in task.questions.values())


GOOD = b'{"user": "u", "prompt": "p", "chosen": "c", "rejected": "r"}\n'
HEAD = b"user,prompt,chosen,rejected\n"


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.jsonl", b"", ["a.jsonl", "no rows"]),
        ("a.csv", b"", ["no rows"]),
        ("a.csv", HEAD, ["no rows"]),
        ("a.json", GOOD, ["unknown suffix '.json', did you mean '.jsonl'?"]),
        ("a", GOOD, ["unknown suffix", ".parquet"]),
        ("a.csv.gz", GOOD, ["unknown suffix"]),
        ("a.jsonl", GOOD + b"{oops\n", ["a.jsonl, line 2: not JSON", "column 2"]),
        ("a.jsonl", GOOD + b"9" * 5000, ["line 2: not"]),
        ("a.jsonl", GOOD + b"[" * 100_000, ["line 2: not JSON"]),
        ("a.jsonl", GOOD + b"[1]\n", ["line 2: not a JSON object but list"]),
        ("a.jsonl", GOOD + b'\n{"user": "\xff"}\n', ["line 3: not UTF-8", "byte 11"]),
        ("a.csv", HEAD + b"u,p,c,\xe9\n", ["a.csv, line 2: not UTF-8"]),
        ("a.jsonl.gz", GOOD, ["a.jsonl.gz: cannot be read"]),
        ("a.jsonl.gz", gzip.compress(GOOD * 99)[:-12], ["a.jsonl.gz: cannot be read"]),
        ("a.jsonl", GOOD.replace(b"pro", b"po"), ["line 1, field 'prompt': missing, did you mean 'pompt'?"]),
        ("a.csv", HEAD.title() + b"u,p,c,r\n", ["line 1, field 'user': missing, did you mean 'User'?"]),
        ("a.csv", HEAD + b"u,p,c,r\nu,p,c\n", ["line 3: 3 cells", "header has 4"]),
        ("a.csv", HEAD + b'u,"p\np",c,r\n\nu,p,,r\n', ["line 5, field 'chosen': empty"]),
        ("a.csv", HEAD.strip() + b',"a\nb"\nu,p,c,,x\n', ["line 3, field 'rejected': empty"]),
        ("a.csv", HEAD + b'u,p,c,r\nu,p,"c,r\nu,p,c,r\n', ["line 3: not CSV"]),
        ("a.csv", b"user," + HEAD + b"u,u,p,c,r\n", ["line 1: two columns have the same name"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"r"', b'" \\n"'), ["line 2, field 'rejected': empty"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"r"', b"null"), ["line 2, field 'rejected': empty"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"p"', b"5"), ["line 2, field 'prompt': not text but int"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"p"', b'["p"]'), ["line 2, field 'prompt': not text but list"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"u"', b'""'), ["line 2, field 'user': empty"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"u"', b"true"), ["line 2, field 'user': not text but bool"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"u"', b"NaN"), ["line 2, field 'user': not text but float"]),
        ("a.jsonl", GOOD + GOOD.replace(b'"c"', b'"\\ud83d"'), ["line 2, field 'chosen': not Unicode"]),
        ("a.jsonl", GOOD.replace(b'"r"', b"1") + GOOD.replace(b'"u"', b'""'), ["line 1, field 'rejected'"]),
    ],
)  # fmt: skip
def test_what_is_broken_is_named(tmp_path: Path, name: str, content: bytes, parts: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, *parts)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "a.jsonl", "no file")
