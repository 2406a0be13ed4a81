"""What a synthesis takes: calls, tokens, dollars and time by stage, before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from fspo_bench.judge.calls import CHARACTERS_A_TOKEN
from fspo_bench.progress import clock
from fspo_bench.synth import prompts
from fspo_bench.synth.domain import Domain, spread
from fspo_bench.synth.questions import A_CALL, EXAMPLES

SENTENCE, DESCRIPTION = 20, 70  # words
SECONDS_A_CALL, SECONDS_A_TOKEN = 0.5, 0.02  # assumed where none has been made


@dataclass(frozen=True)
class Part:
    """A stage's calls, with a prompt like theirs and the words that they write."""

    stage: str
    calls: int
    most: int
    """Should every refinement that is allowed be needed."""
    prompt: str
    words: int
    ensemble: bool = False
    """Whether all models share them."""

    @property
    def reads(self) -> int:
        """Tokens of a prompt."""
        return len(self.prompt) // CHARACTERS_A_TOKEN

    @property
    def writes(self) -> int:
        """Tokens of an answer."""
        return math.ceil(self.words * 4 / 3)


def parts(domain: Domain) -> list[Part]:
    """What each stage asks for."""
    kinds, answers, refinement = domain.questions.kinds, domain.answers, domain.refinement
    questions, users = sum(kind.count for kind in kinds), len(domain.users.fixed) or domain.users.count
    asked = sum(math.ceil(max(0, kind.count - len(kind.seeds)) / A_CALL) for kind in kinds)
    views = questions if "view" in domain.hows else 0
    labels = _pairs(domain) * domain.labels.repeats * (2 if domain.both_orders else 1)
    seed, text = _words(SENTENCE), _words(sum(answers.words) // 2)
    person = _words(DESCRIPTION + SENTENCE * domain.rounds)
    return [
        Part("questions", asked, asked,
             prompts.more_questions(domain, kinds[0], [seed] * EXAMPLES, A_CALL), A_CALL * SENTENCE),
        Part("personas", domain.users.count, domain.users.count,
             prompts.persona(domain, [*domain.users.traits, *domain.users.drawn]), DESCRIPTION),
        Part("responses", views, views, prompts.views(domain, seed, answers.views), SENTENCE * answers.views),
        Part("responses", questions * answers.each, questions * answers.each,
             prompts.answer(domain, seed, "view", seed), sum(answers.words) // 2, ensemble=True),
        Part("labels", labels, labels * (1 + domain.rounds),
             prompts.STAND_IN + prompts.label(domain, person, seed, text, text), 1),
        Part("labels", 0, users * domain.rounds * refinement.statements,
             prompts.statement(domain, person, seed, text, text), SENTENCE),
    ]  # fmt: skip


def _words(count: int) -> str:
    return "words " * count


def _pairs(domain: Domain) -> int:
    """Pairs that all users label once."""
    labels, users, share = domain.labels, domain.users, domain.questions.test_share
    places = [place for kind in domain.questions.kinds for place in range(kind.count)]
    test = sum(spread(place, share) for place in places)
    tested = (
        sum(user.split != "train" for user in users.fixed)
        if users.fixed
        else sum(spread(place, users.test_share) for place in range(users.count))
    )
    of_each = min(labels.questions, len(places) - test) * (len(users.fixed) or users.count)
    return labels.pairs * (of_each + min(labels.test_questions, test) * tested)


def table(
    domain: Domain,
    models: Sequence[str],
    concurrency: int,
    made: Container[str] = (),
    seconds: Mapping[str, float] | None = None,
) -> str:
    """The forecast in words.

    Args:
        domain: what is to be made.
        models: in the order given.
        concurrency: requests under way at a time, for each model.
        made: stages that are there already.
        seconds: measured for a call, by stage.
    """
    measured = seconds or {}
    todo = [part for part in parts(domain) if part.most and part.stage not in made]
    rows: list[Sequence[str]] = [("stage", "calls", "tokens read", "tokens written", "cost", "time")]
    cost, time = [0.0, 0.0], [0.0, 0.0]
    for part in todo:
        dollars = _dollars(part, domain, models)
        each = measured.get(part.stage, SECONDS_A_CALL + SECONDS_A_TOKEN * part.writes)
        each /= concurrency * (len(models) if part.ensemble else 1)
        ends = (part.calls, part.most)
        for n, calls in enumerate(ends):
            cost[n], time[n] = cost[n] + calls * dollars, time[n] + calls * each
        counts = [_span([f"{calls * x:,}" for calls in ends]) for x in (1, part.reads, part.writes)]
        rows.append((part.stage, *counts, _span([f"${calls * dollars:.2f}" for calls in ends]),
                     _span([clock(calls * each) for calls in ends])))  # fmt: skip
    rows.append(("all", "", "", "", _span([f"${x:.2f}" for x in cost]), _span([clock(x) for x in time])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if missing := [name for name in models if name not in domain.prices]:
        lines.append(f"cost: leaves out {', '.join(missing)}, without a price in the domain's `prices`")
    known = [f"{each:.2f} s in {stage}" for stage, each in measured.items()]
    speed = (
        f"measured here ({', '.join(known)})"
        if known
        else "assumed (0.5 s, and 0.02 s a token written): none has been made here yet"
    )
    lines.append(f"time of a call: {speed}; {concurrency} at a time for each model")
    return "\n".join(lines)


def _span(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _dollars(part: Part, domain: Domain, models: Sequence[str]) -> float:
    """Of a call; models without a price cost nothing."""
    asked = models if part.ensemble else models[:1]
    prices = [domain.prices[name] for name in asked if name in domain.prices]
    return sum(price.cost(part.reads, part.writes) for price in prices) / len(asked)
