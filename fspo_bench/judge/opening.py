"""From a judge's name to a judge at work on a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fspo_bench.data.tasks import Task
from fspo_bench.errors import UserError
from fspo_bench.judge.calls import Asker, Budget
from fspo_bench.judge.card import Card, comparisons, measure_judge
from fspo_bench.judge.llm import LlmJudge, open_backend
from fspo_bench.judge.offline import OfflineJudge, judge_key, open_offline
from fspo_bench.judge.pairs import some_pairs
from fspo_bench.judge.spec import OFFLINE, JudgeSpec, read_prompt, read_spec
from fspo_bench.judge.verdicts import Comparison
from fspo_bench.packs import Found, builtin_judge
from fspo_bench.store import Store

AnyJudge = OfflineJudge | LlmJudge


@dataclass(frozen=True)
class Chosen:
    """The judge that a user asked for, before a task is known."""

    found: Found = field(default_factory=lambda: builtin_judge(OFFLINE))
    model: str = ""
    """In place of the one that the judge's file names."""
    max_cost: float | None = None
    """Dollars."""

    def spec(self) -> JudgeSpec:
        """The judge's file.

        Raises:
            UserError: a fault in the file, or a model given to the offline judge.
        """
        spec = read_spec(self.found)
        if spec.model == OFFLINE and self.model:
            raise UserError(f"--judge-model: judge '{self.found.name}' asks no model; choose another --judge")
        return spec.model_copy(update={"model": self.model}) if self.model else spec


def can_judge(chosen: Chosen, task: Task) -> bool:
    """Whether the judge can judge the task: the offline one learns from judge-only questions with traits."""
    return chosen.spec().model != OFFLINE or (task.structured and bool(task.questions_of("judge")))


def open_judge(chosen: Chosen, task: Task, store: Store) -> AnyJudge:
    """The judge at work on a task.

    Raises:
        UserError: the judge has no way to judge this task, or a fault in its files.
    """
    spec = chosen.spec()
    if not can_judge(chosen, task):
        raise UserError(
            f"judge '{chosen.found.name}' needs traits and judge-only questions, which task {task.name} "
            "has not; choose an LLM judge (`fspo-bench ls judges`)"
        )
    if spec.model == OFFLINE:
        return open_offline(task, store)
    price = spec.prices.get(spec.model)
    if chosen.max_cost is not None and price is None:
        raise UserError(
            f"--max-cost: no price of {spec.model} in {chosen.found.path / 'judge.yaml'}; "
            "add it under `prices`"
        )
    asker = Asker(open_backend(spec.model, spec), spec.parameters, store, price, Budget(chosen.max_cost))
    return LlmJudge(chosen.found.name, spec, read_prompt(chosen.found, spec), task, asker)


def key_of_judge(chosen: Chosen, task: Task, store: Store) -> str | None:
    """The judge's key without fitting anything; None where it cannot judge the task."""
    if not can_judge(chosen, task):
        return None
    return judge_key(task) if chosen.spec().model == OFFLINE else open_judge(chosen, task, store).key


def card_of(judge: AnyJudge, pairs: int | None = None) -> Card:
    """The judge measured: the offline one on all labelled pairs, another on as many as its file says."""
    if isinstance(judge, LlmJudge):
        return measure_judge(judge, judge.task, pairs or judge.spec.card_pairs)
    known = _offline_cards.get((judge.key, pairs)) or measure_judge(judge, judge.task, pairs)
    return _offline_cards.setdefault((judge.key, pairs), known)


_offline_cards: dict[tuple[str, int | None], Card] = {}  # of this process: a grid asks again for each run


def forecast_of(judge: AnyJudge, asked: Sequence[Comparison] = (), pairs: int | None = None) -> str:
    """What the judge's card and asking about these would take, in words."""
    if not isinstance(judge, LlmJudge):
        return "the offline judge makes no calls"
    drawn = some_pairs(judge.task, pairs or judge.spec.card_pairs)
    return judge.forecast([*comparisons(p for of_user in drawn for p in of_user), *asked])
