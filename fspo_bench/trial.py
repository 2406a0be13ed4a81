"""What a method is put through: test users' questions and pairs, behind own shots and another user's."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from fspo_bench.data.tasks import Episode, Task
from fspo_bench.evaluate.metrics import Answered, Ranked
from fspo_bench.evaluate.population import longest, surface_model
from fspo_bench.judge.verdicts import half
from fspo_bench.lab import Personal
from fspo_bench.lm.outputs import answers
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen
from fspo_bench.method import Method
from fspo_bench.presets import Preset
from fspo_bench.store import Store, digest


def questions_asked(task: Task, preset: Preset, episodes: Sequence[Episode]) -> list[list[str]]:
    """The test questions (ids) that are asked in each episode: the user's own where users bring them."""
    asked = []
    for e in episodes:
        ids = sorted(q.question_id for q in task.asked_of(task.users[e.user_id], "test"))
        seed = ["asked", task.name, task.spec.version, e.user_id, *([e.round] if e.round else [])]
        asked.append(random.Random(digest(seed)).sample(ids, min(preset.test_questions, len(ids))))
    return asked


def reference_answers(
    policy: Policy, encoder: PromptEncoder, task: Task, asked: Sequence[Sequence[str]], store: Store
) -> dict[str, str]:
    """The untouched model's answer to each question: what every win rate is against."""
    ids = sorted({q for questions in asked for q in questions})
    questions = [(Context(), task.questions[q].prompt) for q in ids]
    texts = answers(policy, encoder, questions, task.spec.max_new_tokens, store, "reference answers")
    return {q: texts[Context(), task.questions[q].prompt] for q in ids}


def wrong_user(episodes: Sequence[Episode], place: int) -> int | None:
    """The place of another test user's episode: the next one round, in their (shuffled) order.

    A fixed user's second episode takes the next but one, and so on, so that it meets different users.
    """
    following = [*range(place + 1 + episodes[place].round, len(episodes)), *range(place)]
    return next((n for n in following if episodes[n].user_id != episodes[place].user_id), None)


def shown(method: Method, task: Task, episodes: Sequence[Episode], place: int) -> Seen:
    """What the method sees of an episode's user, spoilt where it is run as a control."""
    user = task.users[episodes[place].user_id]
    shots = episodes[place].shots
    if method.control == "wrong_user" and (other := wrong_user(episodes, place)) is not None:
        shots = episodes[other].shots
    if method.control == "shuffled_labels":
        coin = random.Random(digest(["labels", task.name, user.user_id, episodes[place].round]))
        shots = tuple(replace(s, chosen=s.rejected, rejected=s.chosen) if coin.random() < 0.5 else s
                      for s in shots)  # fmt: skip
    return method.seen(user, shots)


def answer_all(
    fitted: Personal, task: Task, episodes: Sequence[Episode], asked: Sequence[Sequence[str]],
    base: dict[str, str], seen: Sequence[Seen], others: Sequence[int | None],
) -> list[Answered]:  # fmt: skip
    """Every test user's questions, behind what is seen of the user and what is seen of another."""
    wanted = [(n, q, task.questions[q].prompt) for n in range(len(episodes)) for q in asked[n]]
    questions = [(seen[n], prompt) for n, _, prompt in wanted]
    questions += [(seen[other], prompt) for n, _, prompt in wanted if (other := others[n]) is not None]
    distinct = list(dict.fromkeys(questions))
    replies = dict(zip(distinct, fitted.answer(distinct), strict=True))
    return [
        Answered(
            user_id=episodes[n].user_id,
            round=episodes[n].round,
            question_id=question_id,
            output=replies[seen[n], prompt].text,
            note=replies[seen[n], prompt].note,
            reference=base[question_id],
            wrong_user_output=None if (other := others[n]) is None else replies[seen[other], prompt].text,
            shots=episodes[n].shots,
        )
        for n, question_id, prompt in wanted
    ]


def rank_all(
    fitted: Personal | None, task: Task, episodes: Sequence[Episode], seen: Sequence[Seen],
    others: Sequence[int | None],
) -> list[Ranked]:  # fmt: skip
    """How each held-out pair is ranked, behind what is seen of its user and what is seen of another.

    Without anything that ranks, only how its length and its surface rank it.
    """
    pairs = [q for e in episodes for q in e.queries]
    places = [place for place, e in enumerate(episodes) for _ in e.queries]

    def right(shown: Sequence[Seen]) -> list[float] | list[None]:
        if fitted is None:
            return [None] * len(pairs)
        return [half(m) for m in fitted.margins(list(zip(shown, pairs, strict=True)))]

    wrong: list[float | None] = [None] * len(pairs)
    if None not in others:
        wrong[:] = right([seen[other] for place in places if (other := others[place]) is not None])
    users = [episodes[place].user_id for place in places]
    known = (
        right([seen[place] for place in places]),
        wrong,
        longest(pairs),
        surface_model(task, pairs),
    )
    return [
        Ranked(user, pair.question_id, *rest) for user, pair, *rest in zip(users, pairs, *known, strict=True)
    ]
