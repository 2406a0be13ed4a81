"""The record and its published schema."""

from fspo_bench.evaluate.results import json_schema
from fspo_bench.packs import builtin_root


def test_the_published_schema_is_the_records() -> None:
    published = (builtin_root() / "docs" / "result.schema.json").read_text(encoding="utf-8")
    assert published == json_schema(), "write json_schema() to docs/result.schema.json"
