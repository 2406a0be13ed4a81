"""The whole line: train, answer, judge, count. The only orchestrator.

Everything expensive goes through the store, so the same command resumes; `result.json` is written
last, so a second identical call does no model work.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fspo_bench.data.tasks import EVALUATION_SEED, Task
from fspo_bench.errors import UserError
from fspo_bench.evaluate.metrics import Answered, measure
from fspo_bench.evaluate.results import JudgeRecord, Metrics, Record, read_record
from fspo_bench.evaluate.scoring import RESULT, judge_all, judge_record, notes, write_run
from fspo_bench.judge.llm import LlmJudge
from fspo_bench.judge.offline import open_offline
from fspo_bench.judge.opening import Chosen, can_judge, card_of, forecast_of, key_of_judge, open_judge
from fspo_bench.judge.verdicts import Comparison
from fspo_bench.lab import Lab, Personal
from fspo_bench.lm.embed import sentence_embeddings
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import PromptEncoder
from fspo_bench.method import Method
from fspo_bench.presets import Preset
from fspo_bench.progress import say
from fspo_bench.store import Store, digest, write_atomic
from fspo_bench.trial import answer_all, questions_asked, rank_all, reference_answers, shown, wrong_user

VERSION = 6  # raise when the same spec can give another number


@dataclass(frozen=True)
class Request:
    """What a user asked for, resolved."""

    task: Task
    method: Method
    preset: Preset
    seed: int
    limit: int | None
    init: Path | None
    runs: Path
    command: str
    judge: Chosen = field(default_factory=Chosen)


@dataclass
class _Clock:
    """Seconds spent in each stage."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.spent[name] = round(self.spent.get(name, 0.0) + time.monotonic() - start, 1)


@dataclass(frozen=True)
class Located:
    """Where a run's files go, and all that decides its numbers."""

    folder: Path
    spec: dict[str, Any]
    policy: Policy


def located(request: Request, store: Store) -> Located:
    """The run's place, found without any work."""
    preset = request.preset
    policy = Policy.open(preset.model, preset.lora_rank, preset.dtype, request.seed)
    spec = _spec(request, policy, key_of_judge(request.judge, request.task, store))
    return Located(request.runs / request.task.name / request.method.name / digest(spec)[:10], spec, policy)


def run(request: Request, store: Store) -> Record:
    """Run one method on one task, or read the finished run's record."""
    task, method, preset, place = request.task, request.method, request.preset, located(request, store)
    folder, spec, policy = place.folder, place.spec, place.policy
    name = f"{task.name} / {method.name} / {folder.name}"
    if (folder / RESULT).is_file():
        say(f"{name}: already complete, no model work done")
        return read_record(folder / RESULT)
    if method.sees_judge and not can_judge(Chosen(), task):
        raise UserError(f"method '{method.name}' asks the offline judge, and task {task.name} has none")
    _claim(folder, spec)
    say(f"{name}: {folder}")
    clock = _Clock()
    encoder = PromptEncoder(policy.tokenizer, task.spec.instruction, preset.chat_template)
    episodes = task.test_episodes(
        preset.shots, preset.test_pairs, request.limit or preset.test_users, EVALUATION_SEED
    )
    asked = questions_asked(task, preset, episodes)
    with clock.stage("reference answers"):
        base = reference_answers(policy, encoder, task, asked, store)
    with clock.stage("judge"):  # measured before anything is trained for it
        judge = open_judge(request.judge, task, store) if spec["judge"] else None
        card = card_of(judge) if judge else None
    lab = _lab(request, policy, encoder, store)
    with clock.stage("training"):
        fitted = method.fit(lab)
    seen = [shown(method, task, episodes, place) for place in range(len(episodes))]
    others = [wrong_user(episodes, place) if method.personal else None for place in range(len(episodes))]
    with clock.stage("answers"):
        answered = answer_all(fitted, task, episodes, asked, base, seen, others)
    with clock.stage("preference accuracy"):
        ranked = rank_all(fitted, task, episodes, seen, [None] * len(others) if judge else others)
    with clock.stage("judge"):
        if judge:
            judge_all(judge, task, answered)
    lab.measured |= _note_similarity(task, answered, store)
    metrics = measure(task, answered, ranked, card.errors if card else None)
    of_judge = judge_record(judge, card) if judge and card else None
    record = _record(request, spec, folder.name, metrics, of_judge, clock, lab, _weights(fitted, store))
    write_run(folder, answered, record)
    return record


def forecast(request: Request, store: Store) -> str:
    """What the judge would be asked at most, in words, for answers of full length."""
    task, preset = request.task, request.preset
    if not can_judge(request.judge, task):
        return "no judge"
    judge = open_judge(request.judge, task, store)
    if not isinstance(judge, LlmJudge):
        return forecast_of(judge)
    episodes = task.test_episodes(
        preset.shots, preset.test_pairs, request.limit or preset.test_users, EVALUATION_SEED
    )
    full = " word" * task.spec.max_new_tokens
    asked = [
        Comparison(e.user_id, task.questions[q].prompt, f"{n} {compared}{full}", f"reference{full}")
        for n, (e, questions) in enumerate(
            zip(episodes, questions_asked(task, preset, episodes), strict=True)
        )
        for q in questions
        for compared in range(3 if request.method.personal else 1)
    ]
    return forecast_of(judge, asked)


def _lab(request: Request, policy: Policy, encoder: PromptEncoder, store: Store) -> Lab:
    method = request.method
    worth = open_offline(request.task, store).worths if method.sees_judge else None
    lab = Lab(
        policy, encoder, request.preset, store, request.seed, _training_key(request, policy),
        _task=request.task, _seen=method.seen, _worth=worth,
        _trains_on_descriptions="train_descriptions" in method.module.SEES,
    )  # fmt: skip
    if request.init:
        lab.start = digest(["init", _folder_key(request.init)])
        policy.restore(lab.start, request.init)
    return lab


def _training_key(request: Request, policy: Policy) -> str:
    """Everything that may change what a method learns; a control learns what its method does."""
    spec = _spec(request, policy, None)
    learns = request.method.trained_as or request.method.hash
    beside = ("name", "chunk", "candidates")  # change nothing that is learnt
    budget = {k: v for k, v in spec["preset"].items() if not k.startswith("test_") and k not in beside}
    return digest([spec["version"], spec["task"], learns, spec["model"], budget, spec["init"]])


def _note_similarity(task: Task, answered: Sequence[Answered], store: Store) -> dict[str, float]:
    """How near the descriptions that a method wrote are to its users' true ones, and to another user's."""
    notes = {(a.user_id, a.round): a.note for a in answered if a.note}
    users = sorted({user for user, _ in notes})
    if len(users) < 2 or not all(task.users[user].description for user in users):
        return {}
    true = dict(
        zip(users, sentence_embeddings([task.users[u].description for u in users], store), strict=True)
    )
    written = sentence_embeddings(list(notes.values()), store)
    other = {user: users[(n + 1) % len(users)] for n, user in enumerate(users)}
    rows = [(v @ true[user], v @ true[other[user]]) for v, (user, _) in zip(written, notes, strict=True)]
    own, random_user = (float(sum(column) / len(rows)) for column in zip(*rows, strict=True))
    return {"note_similarity_own": own, "note_similarity_random_user": random_user}


def _spec(request: Request, policy: Policy, judge: str | None) -> dict[str, Any]:
    """Everything that may change a number."""
    return {
        "version": VERSION,
        "task": {"name": request.task.name, "version": request.task.spec.version, "hash": request.task.hash},
        "method": {
            "name": request.method.name,
            "hash": request.method.hash,
            "config": asdict(request.method.config),
            "changed": request.method.changed,
        },
        "model": policy.fingerprint,
        "judge": judge,
        "preset": asdict(request.preset),
        "seed": request.seed,
        "limit": request.limit,
        "init": _folder_key(request.init) if request.init else None,
    }


def _weights(fitted: Personal, store: Store) -> dict[str, str]:
    """Where the store keeps the states that a fitted method answers with; untouched ones are nowhere."""
    states = {"policy": getattr(fitted, "state", ""), "describer": getattr(fitted, "describer", "")}
    return {part: state for part, state in states.items() if state and store.has_folder(state)}


def _folder_key(folder: Path) -> str:
    from fspo_bench.lm.policy import weights_fingerprint

    return weights_fingerprint(folder)


def _claim(folder: Path, spec: dict[str, Any]) -> None:
    try:
        write_atomic(folder / "spec.json", json.dumps(spec, indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write the run folder '{folder}' ({error.strerror}); choose another with --output-path"
        ) from None


def _record(
    request: Request, spec: dict[str, Any], run_id: str, metrics: Metrics, judge: JudgeRecord | None,
    clock: _Clock, lab: Lab, weights: dict[str, str],
) -> Record:  # fmt: skip
    told = notes(request.task, metrics, judge)
    if request.limit:
        told.append(f"--limit {request.limit}: a partial run, not for a leaderboard")
    return Record(
        task=request.task.name, method=request.method.name,
        model=request.preset.model, preset=request.preset.name,
        seed=request.seed, complete=request.limit is None, judge=judge, metrics=metrics,
        seconds=round(sum(clock.spent.values()), 1), id=run_id, notes=told,
        parameters=lab.parameters, tokens=lab.tokens,
        measured={k: round(v, 4) for k, v in lab.measured.items()}, weights=weights,
        stages=clock.spent, spec=spec, environment=_environment(), command=request.command,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    packages = ("fspo-bench", "torch", "transformers", "peft", "accelerate")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{p: version(p) for p in packages},
    }
