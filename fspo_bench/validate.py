"""Prove that a task is sound: no leaks, no contradictions, shots possible for every test user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.task_files import load_task
from fspo_bench.tasks import Task


def validate(folder: Path, shots: int) -> dict[str, int]:
    """Check a task folder; counts of what was checked.

    Raises:
        UserError: the first problem found.
    """
    task = load_task(folder)
    for problem in _problems(task):
        raise UserError(f"task {task.name}: {problem}")
    for split in ("train", "test", "judge"):
        counts = (len(task.users_of(split)), len(task.questions_of(split)))
        if split != "judge" and not all(counts):
            raise UserError(
                f"task {task.name}: split '{split}' has {counts[0]} users and {counts[1]} questions; "
                "both need at least one"
            )
    episodes = task.test_episodes(shots, 1, len(task.users_of("test")), seed=0)
    next(task.train_episodes(shots, 1, 1, seed=0))
    return {
        "users": len(task.users),
        "questions": len(task.questions),
        "answers": len(task.answers),
        "preferences": len(task.rows),
        "test users with shots": len(episodes),
    }


def _problems(task: Task) -> Iterator[str]:
    yield from _leaks(task)
    yield from _repeats(task)
    yield from _contradictions(task)
    yield from _unknown_traits(task)


def _leaks(task: Task) -> Iterator[str]:
    """The same question or answer text in two splits."""
    seen: dict[str, tuple[str, str]] = {}
    for question in task.questions.values():
        where = (question.split, question.question_id)
        other = seen.setdefault(_plain(question.prompt), where)
        if other == where:
            continue
        if other[0] == question.split:
            yield f"questions '{other[1]}' and '{where[1]}' have the same prompt; remove one of them"
        else:
            yield (
                f"leak: question '{where[1]}' ({where[0]}) has the prompt of '{other[1]}' ({other[0]}); "
                "a prompt belongs to one split"
            )
    texts: dict[str, tuple[str, str]] = {}
    for question_id, text in _texts(task):
        split = task.questions[question_id].split
        other = texts.setdefault(_plain(text), (split, question_id))
        if other[0] != split:
            yield (
                f"leak: an answer to '{question_id}' ({split}) also answers '{other[1]}' ({other[0]}); "
                "a text belongs to one split"
            )
    for row in task.rows:
        user, question = task.users[row.user_id], task.questions[row.question_id]
        if user.split == "train" and question.split == "test":
            yield f"leak: train user '{row.user_id}' has a preference about test question '{row.question_id}'"


def _repeats(task: Task) -> Iterator[str]:
    """Two answers of one text to a question: a pair of them would have no right side."""
    for question_id, answers in task.answers_to.items():
        seen: dict[str, str] = {}
        for answer in answers:
            other = seen.setdefault(_plain(answer.text), answer.answer_id)
            if other != answer.answer_id:
                yield f"answers '{other}' and '{answer.answer_id}' to '{question_id}' have the same text"


def _unknown_traits(task: Task) -> Iterator[str]:
    """A loading on a trait that no user holds counts for nothing: most likely a typing slip."""
    held = {trait for user in task.users.values() for trait in user.traits}
    for answer in task.answers.values():
        for trait in answer.loadings:
            if trait not in held:
                hint = did_you_mean(trait, held)
                yield f"answer '{answer.answer_id}' loads on '{trait}', which no user holds{hint}"


def _contradictions(task: Task) -> Iterator[str]:
    held = {(r.user_id, r.question_id, r.chosen, r.rejected) for r in task.rows}
    for user, question, chosen, rejected in held:
        if (user, question, rejected, chosen) in held:
            yield f"user '{user}' prefers each of two answers to '{question}' to the other; keep one row"


def _texts(task: Task) -> Iterator[tuple[str, str]]:
    for answer in task.answers.values():
        yield answer.question_id, answer.text
    for row in task.rows:
        yield row.question_id, row.chosen
        yield row.question_id, row.rejected


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
