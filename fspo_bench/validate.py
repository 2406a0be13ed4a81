"""Prove that a task is sound: no leaks, no contradictions, shots possible for every test user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fspo_bench.data.tasks import Episode, Task
from fspo_bench.data.texts import plain
from fspo_bench.errors import UserError, did_you_mean


def validate(task: Task, shots: int | None = None, model: str | None = None) -> dict[str, int]:
    """Check a task; counts of what was checked.

    Args:
        task: what to check.
        shots: preferences that every test user must be able to show (default: what the task promises).
        model: measure prompts in tokens of this model too.

    Raises:
        UserError: the first problem found.
    """
    shots = shots or task.spec.shots
    for problem in problems(task):
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
    lengths = _token_lengths(task, episodes, model) if model else {}
    return {
        "users": len(task.users),
        "questions": len(task.questions),
        "answers": len(task.answers),
        "preferences": len(task.rows),
        f"test users with {shots} shots": len({e.user_id for e in episodes}),
        **lengths,
    }


def _token_lengths(task: Task, episodes: Sequence[Episode], model: str) -> dict[str, int]:
    """The longest prompt (both sides of every shot, and the question) and the longest answer.

    Raises:
        UserError: they do not fit the model.
    """
    from transformers import AutoConfig, AutoTokenizer

    from fspo_bench.lm.models import model_dir
    from fspo_bench.lm.prompts import PromptEncoder, Seen, shots_context

    folder = model_dir(model)
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(folder), task.spec.instruction)
    prompt = max(
        len(encoder.prefix(shots_context(Seen(e.shots)))) + len(encoder.question(q.prompt))
        for e in episodes
        for q in e.queries
    )
    answer = max(len(encoder.answer(t)) for e in episodes for q in e.queries for t in (q.chosen, q.rejected))
    limit = getattr(AutoConfig.from_pretrained(folder), "max_position_embeddings", None)
    if limit and prompt + answer > limit:
        raise UserError(
            f"task {task.name}: a prompt of {prompt} tokens and an answer of {answer} do not fit {model}, "
            f"which reads {limit}; use fewer shots (--shots N)"
        )
    return {"tokens in the longest prompt": prompt, "tokens in the longest answer": answer}


def problems(task: Task) -> Iterator[str]:
    """Everything that is wrong with a task, a sentence each."""
    yield from _leaks(task)
    yield from _repeats(task)
    yield from _contradictions(task)
    yield from _unknown_traits(task)


def _leaks(task: Task) -> Iterator[str]:
    """The same question or answer text in two splits."""
    seen: dict[str, tuple[str, str]] = {}
    for question in task.questions.values():
        where = (question.split, question.question_id)
        other = seen.setdefault(plain(question.prompt), where)
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
        other = texts.setdefault(plain(text), (split, question_id))
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
            other = seen.setdefault(plain(answer.text), answer.answer_id)
            if other != answer.answer_id:
                yield f"answers '{other}' and '{answer.answer_id}' to '{question_id}' have the same text"


def _unknown_traits(task: Task) -> Iterator[str]:
    """A loading on a trait that no user holds counts for nothing: most likely a typing slip."""
    if scale := task.spec.nearest:
        for answer in task.answers.values():
            if not answer.weak and set(answer.loadings) != {scale}:
                yield f"answer '{answer.answer_id}' needs a place on the scale '{scale}' and nothing else"
        return
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
