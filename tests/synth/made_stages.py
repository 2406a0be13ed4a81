"""A made synthesis: labellers whose habits are known, and the files that their stages leave."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import write_rows

Verdict = str | None
Labeller = Callable[[str, str, str, int], tuple[Verdict, Verdict]]
"""(user, question, pair, repeat) -> the verdict with a first, and with b first."""


def always_first(*_: object) -> tuple[Verdict, Verdict]:
    return "a", "b"


def sure(user: str, question: str, pair: str, repeat: int) -> tuple[Verdict, Verdict]:
    side = "ab"[(hash_of(user) + hash_of(question + pair)) % 2]
    return side, side


def hash_of(text: str) -> int:
    return sum(map(ord, text))


def label_rows(
    labeller: Labeller, users: int = 6, questions: int = 5, repeats: int = 4, refinement: int = 0
) -> Iterator[dict[str, Any]]:
    for u in range(users):
        for q in range(questions):
            for repeat in range(repeats):
                ab, ba = labeller(f"u{u}", f"q{q}", "0-1", repeat)
                yield {
                    "user_id": f"u{u}", "question_id": f"q{q}", "a": f"q{q}/0", "b": f"q{q}/1",
                    "refinement": refinement, "repeat": repeat, "ab": ab, "ba": ba,
                    "outcome": outcome(ab, ba),
                }  # fmt: skip


def outcome(ab: Verdict, ba: Verdict) -> str:
    if ab is None and ba is None:
        return "invalid"
    return (ab or ba or "") if ab == ba or None in (ab, ba) else "flip"


def write_stages(folder: Path, labels: Iterable[dict[str, Any]] | None = None, questions: int = 5) -> Path:
    """The `.synth` of a folder: two ways of writing by two models, refinements, what was dropped."""
    stages = folder / ".synth"
    stages.mkdir(parents=True)
    asked = [f"q{n}" for n in range(questions)]
    write_rows(
        stages / "questions.jsonl",
        [{"question_id": q, "prompt": f"What of {q}?", "kind": "global", "split": "train", "seed": n < 2,
          "model": ""} for n, q in enumerate(asked)],
    )  # fmt: skip
    write_rows(
        stages / "personas.jsonl",
        [{"user_id": f"u{n}", "split": "train", "group": "g", "traits": ["t"], "description": "d"}
         for n in range(6)],
    )  # fmt: skip
    write_rows(
        stages / "responses.jsonl",
        [
            {"answer_id": f"{q}/{n}", "question_id": q, "text": f"{how} {model} {n} {'long ' * n}",
             "model": model, "how": how, "steer": "", "temperature": 1.0}
            for q in asked
            for n, (how, model) in enumerate(
                (how, model) for how in ("plain", "view") for model in ("big", "small") for _ in range(2)
            )
        ],
    )  # fmt: skip
    if labels is not None:
        write_rows(stages / "labels.jsonl", list(labels))
    write_rows(
        stages / "refinements.jsonl",
        [{"user_id": "u0", "refinement": 1, "question_id": "q0", "chosen": "a", "statement": "s",
          "description": "d s"}],
    )  # fmt: skip
    write_rows(
        stages / "dropped.questions.jsonl",
        [{"stage": "questions", "id": f"q{n}", "why": f"near-duplicate (of q{n})"} for n in range(3)],
    )
    return folder
