"""Reading what models write: lists, prose, one sentence, a verdict. None, or fewer, where there is nothing.

Small models add greetings, headings, quotes and loose ends; what can be read is read, what cannot is
asked for again a few times and then dropped and counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Parser = Callable[[str], T | None]

FIRST, SECOND, TIE = "1", "2", "tie"

_ITEM = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|[-*\u2022\u2013])\s+(.*)$")  # 1. / 1) / (1) / 1: / - / *
_ENDS = re.compile(r"[.!?][\"'\u201d\u2019)\]]*(?=\s|$)")
_LEAD = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|great)\b[^.!:\n]{0,60}[.!:]\s*"
    r"|(?:here is|here's|answer|response|description|statement|sentence|reply)\b[^.!?:\n]{0,60}:\s*)+",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|language model)|i(?:'m| am) (?:sorry|unable)"
    r"|i (?:can(?:no|')t|cannot) (?:help|assist|provide))",
    re.IGNORECASE,
)
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_VERDICT = re.compile(r"(?<![\d.])([012])(?![\d]|\.\d)|\b(tie|neither|one|two|first|second)\b", re.IGNORECASE)
_MEANS = {"0": TIE, "tie": TIE, "neither": TIE, "one": FIRST, "first": FIRST, "two": SECOND, "second": SECOND}


def clean(text: str) -> str:
    """Text that can be written as UTF-8, without NUL, quotes around all of it, or bold marks."""
    text = text.encode("utf-8", "ignore").decode().replace("\0", "").replace("**", "").strip()
    if len(text) > 1 and (text[0], text[-1]) in {('"', '"'), ("“", "”"), ("'", "'")}:
        text = text[1:-1].strip()
    return text


def items(text: str) -> list[str]:
    """The points of a list: a JSON array of texts, or lines that begin with a number or a bullet."""
    start = text.find("[")
    if start >= 0:
        try:
            value = json.JSONDecoder().raw_decode(text[start:])[0]
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            return [point for v in value if (point := _line(v))]
    matches = map(_ITEM.match, text.splitlines())
    return [point for match in matches if match and (point := _line(match[1]))]


def listed(most: int) -> Parser[list[str]]:
    """Up to `most` points; None where there is none."""
    return lambda text: items(text)[:most] or None


def questions(most: int) -> Parser[list[str]]:
    """Of the points those that can be asked: 3 to 60 words."""

    def parse(text: str) -> list[str] | None:
        return [q for q in items(text) if 3 <= len(q.split()) <= 60][:most] or None

    return parse


def prose(least: int, most: int) -> Parser[str]:
    """One paragraph of whole sentences with so many words; a loose end is cut off."""

    def parse(text: str) -> str | None:
        body = _line(_LEAD.sub("", clean(text)))
        if _REFUSAL.search(body[:200]):
            return None
        ends = [match.end() for match in _ENDS.finditer(body)]
        body = body[: ends[-1]] if ends else ""
        return body if least <= len(body.split()) <= most else None

    return parse


def sentence(text: str) -> str | None:
    """The first sentence that could be about a person's tastes: 3 to 45 words, nothing about "answer 1"."""
    body = _line(_LEAD.sub("", clean(text)))
    end = _ENDS.search(body)
    body = body[: end.end()] if end else f"{body}."
    about_answers = re.search(r"\b(?:answer|option|response)s? [12]\b", body, re.IGNORECASE)
    if about_answers or _REFUSAL.search(body) or not 3 <= len(body.split()) <= 45:
        return None
    return body


def verdict(text: str) -> str | None:
    """FIRST, SECOND or TIE: the one that the text names, or the one that it begins with."""
    found: list[str] = [_MEANS.get(a or b.lower(), a) for a, b in _VERDICT.findall(text)]
    if len(set(found)) == 1:
        return found[0]
    opening = _VERDICT.match(text.lstrip(" \t\r\n*`\"'([{#"))
    return found[0] if opening else None


def foreign(text: str, question: str) -> bool:
    """Whether a text slips into East Asian script where the question is in another."""
    return bool(_EAST_ASIAN.search(text)) and not _EAST_ASIAN.search(question)


def _line(text: str) -> str:
    """One line, cleaned."""
    return clean(" ".join(text.split()))
