"""Entries that no model made: answers are the task's own, good or bad for their user as often as asked."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import EVALUATION_SEED, Answer, Episode, Task, User
from fspo_bench.evaluate.metrics import OWN, REFERENCE, WRONG_USER, Answered, Ranked, measure
from fspo_bench.evaluate.stats import Crossed
from fspo_bench.judge.verdicts import Verdict
from fspo_bench.leaderboard.records import Entry, Submitted
from fspo_bench.presets import PRESETS
from fspo_bench.store import digest
from fspo_bench.trial import questions_asked, wrong_user
from tests.conftest import write_task
from tests.made import a_record

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=2>\u2028'\"&amp;"
RIGHT = Crossed(np.ones((3, 3)), np.ones((3, 3)))  # a judge without errors


@dataclass(frozen=True)
class Made:
    """A run: `skill` is how often it gives the answer that its user likes best, not the one liked least."""

    method: str
    skill: float = 0.8
    seed: int = 0
    personal: bool = True
    """Whether it also answers behind another user's shots."""
    words: int = 0
    """Added to each answer."""
    note: str = ""
    changed: Mapping[str, Any] = field(default_factory=dict)
    """Of the method's settings."""
    preset: Mapping[str, Any] = field(default_factory=dict)
    """Of the preset's."""


SEVERAL = (
    Made("base", 0.0, personal=False),
    Made("verbose", 0.5, personal=False, words=9),
    Made("concise", 0.4, personal=False),
    Made("few_shot", 0.6),
    Made("fspo", 0.9, seed=0, note="Likes the open air."),
    Made("fspo", 0.9, seed=1, note="Likes the open air."),
    Made("fspo", 0.7, preset={"shots": 2}),
    Made("wrong_user-fspo", 0.5),
)


def a_task(folder: Path) -> Task:
    """Eight test users and ten test questions."""
    return load_task(write_task(folder, users=24, questions=30))


def entries(task: Task, runs: Sequence[Made] = SEVERAL) -> list[Submitted]:
    """All of them submitted and verified."""
    return [entry(task, made) for made in runs]


def hostile(task: Task) -> list[Submitted]:
    """Entries that hold HOSTILE wherever a model, a file or a person writes; the users' descriptions too."""
    made = entries(task, [*SEVERAL, Made(f"bad{HOSTILE}")])
    for run in made:
        run.entry.record = run.record.model_copy(update={"command": f"fspo-bench {HOSTILE}"})
        for a in run.answered:
            a.output, a.note, a.reference, a.wrong_user_output = (HOSTILE,) * 4
    for name, user in task.users.items():
        task.users[name] = user.model_copy(update={"description": HOSTILE})
    return made


def entry(task: Task, made: Made) -> Submitted:
    """One run as `read_entries` would give it; its digest is none."""
    preset = replace(PRESETS["cpu"], **{"model": "made-model", "test_users": 8, **made.preset})
    episodes = task.test_episodes(preset.shots, preset.test_pairs, preset.test_users, EVALUATION_SEED)
    asked = questions_asked(task, preset, episodes)
    answered = [
        _answered(task, made, episodes, place, question)
        for place in range(len(episodes))
        for question in asked[place]
    ]
    metrics = measure(task, answered, _ranked(made, episodes), RIGHT)
    spec = {
        "version": 1, "limit": None, "init": None, "seed": made.seed, "model": "bytes", "judge": "judge",
        "task": {"name": task.name, "version": task.spec.version, "hash": task.hash},
        "method": {"name": made.method, "hash": "h", "config": {}, "changed": dict(made.changed)},
        "preset": asdict(preset),
    }  # fmt: skip
    record = a_record(
        task=task.name, method=made.method, model=preset.model, preset=preset.name, seed=made.seed,
        id=digest(spec)[:10], spec=spec, command=f"fspo-bench run --method {made.method} --task {task.name}",
    ).model_copy(update={"metrics": metrics})  # fmt: skip
    file = Path(task.name, made.method, f"{record.id}.json")
    return Submitted(file, Entry(record=record, verified=True, digest=""), answered)


def _answered(task: Task, made: Made, episodes: Sequence[Episode], place: int, question: str) -> Answered:
    episode, reference = episodes[place], task.answers_to[question][0]
    user, other = task.users[episode.user_id], wrong_user(episodes, place)
    own = reference if made.method == "base" else _given(task, made, user, question)
    wrong = _given(task, made, task.users[episodes[other].user_id], question) if other is not None else own
    verdicts = {REFERENCE: _verdict(task, user, own, reference)}
    if made.personal:
        verdicts[WRONG_USER] = _verdict(task, user, wrong, reference)
        verdicts[OWN] = _verdict(task, user, own, wrong)
    return Answered(
        user_id=user.user_id,
        round=episode.round,
        question_id=question,
        output=own.text + " and more" * made.words,
        reference=reference.text,
        wrong_user_output=wrong.text if made.personal else None,
        shots=episode.shots,
        verdicts=verdicts,
        note=made.note,
    )


def _given(task: Task, made: Made, user: User, question: str) -> Answer:
    """What the method answers behind this user's shots."""
    rng = random.Random(digest([made.method, made.seed, made.preset.get("shots", 0), user.user_id, question]))
    pick = max if rng.random() < made.skill else min
    return pick(task.answers_to[question], key=lambda a: task.utility(user, a))


def _verdict(task: Task, user: User, a: Answer, b: Answer) -> Verdict:
    margin = task.utility(user, a) - task.utility(user, b)
    return Verdict((1 / (1 + float(np.exp(-margin))),))


def _ranked(made: Made, episodes: Sequence[Episode]) -> list[Ranked]:
    """Held-out pairs, ranked right as often as the method is good."""
    rng = random.Random(digest([made.method, made.seed]))
    return [
        Ranked(e.user_id, pair.question_id, float(rng.random() < made.skill), None, 0.5, 0.5)
        for e in episodes
        for pair in e.queries
    ]
