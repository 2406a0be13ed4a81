"""The whole line: train, answer, judge, count. The only orchestrator.

Everything expensive goes through the store, so the same command resumes; `result.json` is written
last, so a second identical call does no model work.
"""

from __future__ import annotations

import json
import platform
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fspo_bench.data.tasks import Episode, Task
from fspo_bench.errors import UserError
from fspo_bench.evaluate.judge import NAME as JUDGE
from fspo_bench.evaluate.judge import WARN_BELOW, Card, Judge, card, judge_key, open_judge
from fspo_bench.evaluate.metrics import Answered, Ranked, half, measure
from fspo_bench.evaluate.population import longest, surface_model
from fspo_bench.evaluate.results import JudgeRecord, Metrics, Record, read_record
from fspo_bench.lab import Lab, Personal
from fspo_bench.lm.embed import sentence_embeddings
from fspo_bench.lm.outputs import answers
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen
from fspo_bench.method import Method
from fspo_bench.presets import Preset
from fspo_bench.progress import say
from fspo_bench.store import Store, canonical, digest, write_atomic

EVALUATION_SEED = 0  # test episodes are the same for every method and training seed
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


@dataclass
class _Clock:
    """Seconds spent in each stage."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.spent[name] = round(self.spent.get(name, 0.0) + time.monotonic() - start, 1)


def run(request: Request, store: Store) -> Record:
    """Run one method on one task, or read the finished run's record."""
    task, method, preset = request.task, request.method, request.preset
    policy = Policy.open(preset.model, preset.lora_rank, preset.dtype, request.seed)
    judged = task.structured and bool(task.questions_of("judge"))
    spec = _spec(request, policy, judge_key(task) if judged else None)
    folder = request.runs / task.name / method.name / digest(spec)[:10]
    name = f"{task.name} / {method.name} / {folder.name}"
    if (folder / "result.json").is_file():
        say(f"{name}: already complete, no model work done")
        return read_record(folder / "result.json")
    if method.sees_judge and not judged:
        raise UserError(f"method '{method.name}' asks the offline judge, and task {task.name} has none")
    _claim(folder, spec)
    say(f"{name}: {folder}")
    clock = _Clock()
    encoder = PromptEncoder(policy.tokenizer, task.spec.instruction, preset.chat_template)
    episodes = task.test_episodes(
        preset.shots, preset.test_pairs, request.limit or preset.test_users, EVALUATION_SEED
    )
    asked = _questions(task, preset, episodes)
    with clock.stage("reference answers"):
        base = _base_answers(policy, encoder, task, asked, store)
    judge = measured = None
    with clock.stage("judge"):
        if judged:
            judge = open_judge(task, store)
            measured = card(judge)
    lab = _lab(request, policy, encoder, judge, store)
    with clock.stage("training"):
        fitted = method.fit(lab)
    seen = [_shown(request, episodes, place) for place in range(len(episodes))]
    others = [_wrong_user(episodes, place) if method.personal else None for place in range(len(episodes))]
    with clock.stage("answers"):
        answered = _answer_all(fitted, task, episodes, asked, base, seen, others)
    with clock.stage("preference accuracy"):
        ranked = _ranked(fitted, task, episodes, seen, [None] * len(others) if judged else others)
    with clock.stage("judge"):
        if judge:
            _judge_all(judge, task, answered)
    lab.measured |= _note_similarity(task, answered, store)
    record = _record(request, spec, folder.name, answered, ranked, judge, measured, clock, lab)
    _write(folder, answered, record)
    return record


def _lab(request: Request, policy: Policy, encoder: PromptEncoder, judge: Judge | None, store: Store) -> Lab:
    method = request.method
    lab = Lab(
        policy, encoder, request.preset, store, request.seed, _training_key(request, policy),
        _task=request.task, _seen=method.seen, _worth=judge.worths if judge and method.sees_judge else None,
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


def _questions(task: Task, preset: Preset, episodes: Sequence[Episode]) -> list[list[str]]:
    """The test questions (ids) that are asked in each episode: the user's own where users bring them."""
    asked = []
    for e in episodes:
        ids = sorted(q.question_id for q in task.asked_of(task.users[e.user_id], "test"))
        seed = ["asked", task.name, task.spec.version, e.user_id, *([e.round] if e.round else [])]
        asked.append(random.Random(digest(seed)).sample(ids, min(preset.test_questions, len(ids))))
    return asked


def _base_answers(
    policy: Policy, encoder: PromptEncoder, task: Task, asked: Sequence[Sequence[str]], store: Store
) -> dict[str, str]:
    """The untouched model's answer to each question: what every win rate is against."""
    ids = sorted({q for questions in asked for q in questions})
    questions = [(Context(), task.questions[q].prompt) for q in ids]
    texts = answers(policy, encoder, questions, task.spec.max_new_tokens, store, "reference answers")
    return {q: texts[Context(), task.questions[q].prompt] for q in ids}


def _wrong_user(episodes: Sequence[Episode], place: int) -> int | None:
    """The place of another test user's episode: the next one round, in their (shuffled) order.

    A fixed user's second episode takes the next but one, and so on, so that it meets different users.
    """
    following = [*range(place + 1 + episodes[place].round, len(episodes)), *range(place)]
    return next((n for n in following if episodes[n].user_id != episodes[place].user_id), None)


def _shown(request: Request, episodes: Sequence[Episode], place: int) -> Seen:
    """What the method sees of an episode's user, spoilt where it is run as a control."""
    method, user = request.method, request.task.users[episodes[place].user_id]
    shots = episodes[place].shots
    if method.control == "wrong_user" and (other := _wrong_user(episodes, place)) is not None:
        shots = episodes[other].shots
    if method.control == "shuffled_labels":
        coin = random.Random(digest(["labels", request.task.name, user.user_id, episodes[place].round]))
        shots = tuple(replace(s, chosen=s.rejected, rejected=s.chosen) if coin.random() < 0.5 else s
                      for s in shots)  # fmt: skip
    return method.seen(user, shots)


def _answer_all(
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


def _ranked(
    fitted: Personal, task: Task, episodes: Sequence[Episode], seen: Sequence[Seen],
    others: Sequence[int | None],
) -> list[Ranked]:  # fmt: skip
    """How each held-out pair is ranked, behind what is seen of its user and what is seen of another."""
    pairs = [q for e in episodes for q in e.queries]
    places = [place for place, e in enumerate(episodes) for _ in e.queries]

    def right(shown: Sequence[Seen]) -> list[float]:
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


def _judge_all(judge: Judge, task: Task, answered: Sequence[Answered]) -> None:
    """Each answer against the reference's, and the one behind the user's own shots against the other."""

    def compare(pairs: Sequence[tuple[str | None, str | None]]) -> list[float | None]:
        rows = [
            (a.user_id, task.questions[a.question_id].prompt, one, other)
            for a, (one, other) in zip(answered, pairs, strict=True)
            if one is not None and other is not None
        ]
        verdicts = iter(judge.verdicts(rows))
        return [None if None in pair else next(verdicts) for pair in pairs]

    wins = compare([(a.output, a.reference) for a in answered])
    wrong = compare([(a.wrong_user_output, a.reference) for a in answered])
    own = compare([(a.output, a.wrong_user_output) for a in answered])
    for a, *verdicts in zip(answered, wins, wrong, own, strict=True):
        a.p, a.wrong_user_p, a.own_p = verdicts


def _record(
    request: Request, spec: dict[str, Any], run_id: str, answered: Sequence[Answered],
    ranked: Sequence[Ranked], judge: Judge | None, measured: Card | None, clock: _Clock, lab: Lab,
) -> Record:  # fmt: skip
    metrics = measure(request.task, answered, ranked, measured.errors if measured else None)
    judge_record = _judge_record(judge, measured) if judge and measured else None
    return Record(
        task=request.task.name, method=request.method.name,
        model=request.preset.model, preset=request.preset.name,
        seed=request.seed, complete=request.limit is None, judge=judge_record, metrics=metrics,
        seconds=round(sum(clock.spent.values()), 1), id=run_id, notes=_notes(request, metrics, judge_record),
        parameters=lab.parameters, tokens=lab.tokens,
        measured={k: round(v, 4) for k, v in lab.measured.items()},
        stages=clock.spent, spec=spec, environment=_environment(), command=request.command,
    )  # fmt: skip


def _notes(request: Request, metrics: Metrics, judge: JudgeRecord | None) -> list[str]:
    """What to know about the numbers."""
    notes = [request.task.note] if request.task.note else []
    if judge is None:
        notes.append("win rates: the offline judge needs a task with traits and judge-only questions")
        if metrics.personal_gain:
            notes.append("personal gain: in preference accuracy, as there is no judge")
    elif judge.accuracy < WARN_BELOW:
        notes.append(
            f"the judge is right on only {judge.accuracy:.1f}% of held-out labels: read win rates with care"
        )
    if metrics.personal_gain is None:
        notes.append("personal gain: the method sees nothing of the user, or there is one test user")
    if request.limit:
        notes.append(f"--limit {request.limit}: a partial run, not for a leaderboard")
    return notes


def _judge_record(judge: Judge, measured: Card) -> JudgeRecord:
    return JudgeRecord(
        name=JUDGE,
        accuracy=round(measured.views.value, 2),
        ci95=(round(measured.views.low, 2), round(measured.views.high, 2)),
        accuracy_with_weak=round(measured.with_weak.value, 2),
        accuracy_all=round(100 * measured.errors.accuracy, 2),
        longest_answer=round(measured.longest.value, 2),
        coin=measured.coin,
        key=judge.key,
    )


def _environment() -> dict[str, str]:
    packages = ("fspo-bench", "torch", "transformers", "peft", "accelerate")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{p: version(p) for p in packages},
    }


def _write(folder: Path, answered: Sequence[Answered], record: Record) -> None:
    outputs = [
        {k: v for k, v in asdict(a).items() if k not in ("p", "wrong_user_p", "own_p", "shots")}
        for a in answered
    ]
    kept = ("user_id", "round", "question_id", "p", "wrong_user_p", "own_p")
    verdicts = [{key: getattr(a, key) for key in kept} for a in answered]
    write_atomic(folder / "outputs.jsonl", "".join(canonical(row) + "\n" for row in outputs))
    write_atomic(folder / "verdicts.jsonl", "".join(canonical(row) + "\n" for row in verdicts))
    write_atomic(folder / "result.json", record.model_dump_json(indent=2) + "\n")
