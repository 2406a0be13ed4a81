"""The models at work: which one is asked, how often again, what is kept, within one budget."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from fspo_bench.errors import UserError, did_you_mean
from fspo_bench.judge.calls import Asker, Backend, Budget, Completion, Known, Request
from fspo_bench.judge.spec import Parameters, Price
from fspo_bench.progress import Line
from fspo_bench.store import digest

T = TypeVar("T")

TRIES = 3  # of a request whose answer cannot be read, the first one included
TIMEOUT = 300.0  # seconds for one answer: a paragraph from a slow server


class Ask(NamedTuple):
    """One request, before a model is chosen for it by number."""

    user: str
    seed: object
    """What sets this request apart from others with the same words; goes into the sampling's seed."""
    system: str = ""
    model: int = 0
    max_tokens: int = 256
    temperature: float = 1.0


@dataclass(frozen=True)
class Model:
    """A model as it is named on the command line."""

    name: str
    backend: Backend


def open_model(given: str, concurrency: int) -> Model:
    """`openai/NAME`, with `@BASE_URL` where it is not at `OPENAI_BASE_URL`.

    Raises:
        UserError: it names no model of a server.
    """
    from fspo_bench.judge.servers import Server

    match = re.fullmatch(r"openai/(.+?)(?:@(https?://.+))?", given)
    if not match:
        raise UserError(
            f"--model {given}: give openai/NAME or openai/NAME@http://HOST:PORT/v1, a model of an "
            "OpenAI-compatible server"
        )
    name, url = match[1], match[2] or ""
    return Model(f"openai/{name}", Server(name, concurrency, TIMEOUT, base_url=url))


@dataclass
class Crew:
    """The models in the order given: the first writes and labels, all of them answer."""

    models: Sequence[Model]
    known: Known
    """Where answers are kept until they are in a stage's file."""
    line: Line
    prices: dict[str, Price] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why servers would not answer, and how often."""
    _askers: dict[tuple[int, int, float], Asker] = field(default_factory=dict)

    def read(self, asks: Sequence[Ask], parse: Callable[[str], T | None]) -> list[T | None]:
        """What was made of each answer; None where nothing could be, however often it was asked for.

        Raises:
            Stopped: the budget is spent or a server keeps failing; what was answered is kept.
        """
        found: list[T | None] = [None] * len(asks)
        open_ = list(range(len(asks)))
        for attempt in range(TRIES):
            self.line.total += len(open_) if attempt else 0
            again = []
            for place, completion in zip(open_, self._ask([asks[i] for i in open_], attempt), strict=True):
                found[place] = None if completion.refused else parse(completion.text)
                if completion.refused:
                    self.refused[completion.refused] += 1
                elif found[place] is None and asks[place].temperature:  # else it says the same again
                    again.append(place)
            if not (open_ := again):
                break
        return found

    def _ask(self, asks: Sequence[Ask], attempt: int) -> list[Completion]:
        """Every model's requests at the same time."""
        by: dict[tuple[int, int, float], list[int]] = {}
        for place, ask in enumerate(asks):
            by.setdefault((ask.model, ask.max_tokens, ask.temperature), []).append(place)
        found: dict[int, Completion] = {}

        def work(key: tuple[int, int, float], places: Sequence[int]) -> None:
            requests = [self._request(asks[place], attempt) for place in places]
            found.update(zip(places, self._asker(*key).ask(requests, "", self.line), strict=True))

        if len(by) == 1:
            work(*next(iter(by.items())))
        else:
            self._together(work, by)
        return [found[place] for place in range(len(asks))]

    def _together(
        self,
        work: Callable[[tuple[int, int, float], list[int]], None],
        by: dict[tuple[int, int, float], list[int]],
    ) -> None:
        with ThreadPoolExecutor(max(1, len(by))) as pool:
            jobs = [pool.submit(work, key, places) for key, places in by.items()]
            try:
                for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
                    job.result()
            except BaseException:
                self.budget.closed = True  # the others finish what is under way and ask no more
                raise

    def _request(self, ask: Ask, attempt: int) -> Request:
        seed = int(digest([self.seed, ask.seed, attempt])[:7], 16)
        return Request(ask.system, ask.user, seed=seed)

    def _asker(self, model: int, max_tokens: int, temperature: float) -> Asker:
        key = (model, max_tokens, temperature)
        if key not in self._askers:
            chosen = self.models[model]
            parameters = Parameters(max_tokens=max_tokens, temperature=temperature)
            self._askers[key] = Asker(
                chosen.backend, parameters, self.known, self.prices.get(chosen.name), self.budget
            )
        return self._askers[key]

    def used(self) -> dict[str, float]:
        """What the answers of this crew took."""
        usages = [asker.usage for asker in self._askers.values()]
        return {
            "calls": sum(u.calls for u in usages),
            "input_tokens": sum(u.input_tokens for u in usages),
            "output_tokens": sum(u.output_tokens for u in usages),
            "cached_tokens": sum(u.cached_tokens for u in usages),
            "seconds": round(sum(u.seconds for u in usages), 3),
        }


def require_keys(models: Iterable[Model]) -> None:
    """Find a missing key before any work.

    Raises:
        UserError: there is none.
    """
    from fspo_bench.judge.servers import Server

    for model in models:
        if isinstance(model.backend, Server):
            model.backend.api_key()


def check_models(models: Iterable[Model], prices: dict[str, Price], max_cost: float | None) -> None:
    """No model twice; a price for each where a cost is not to be passed.

    Raises:
        UserError: otherwise.
    """
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--model {name}: given twice; an ensemble needs different models")
        if max_cost is not None and name not in prices:
            raise UserError(
                f"--max-cost: no price of {name} in the domain's `prices`{did_you_mean(name, prices)}"
            )
