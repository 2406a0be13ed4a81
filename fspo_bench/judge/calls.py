"""Requests to a model that judges: asked once, kept raw before anything reads them, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

from fspo_bench.errors import Stopped
from fspo_bench.judge.spec import Parameters, Price
from fspo_bench.progress import Line
from fspo_bench.store import digest

CHARACTERS_A_TOKEN = 4  # a forecast's rule of thumb: other people's tokenizers are not at hand


@dataclass(frozen=True)
class Request:
    """One prompt; equal requests are one."""

    system: str
    user: str
    shared: str = ""
    """How the user message begins that other requests begin with, too."""
    seed: int | None = None
    """Of the sampling; requests that differ in it alone are different ones."""

    @property
    def messages(self) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.user}]

    @property
    def likely_tokens(self) -> int:
        return (len(self.system) + len(self.user)) // CHARACTERS_A_TOKEN


@dataclass(frozen=True)
class Completion:
    """What a model answered."""

    text: str
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest first tokens with their log-probabilities, where the server gives them."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input, found in the server's cache."""
    seconds: float = 0.0
    model: str = ""
    """As the server names itself."""
    refused: str = ""
    """Why the server will not answer this request however often it is asked."""


Keep = Callable[[Request, Completion], None]


class Backend(Protocol):
    """A model that answers requests; `key` names its weights, or what a server calls them."""

    @property
    def key(self) -> str: ...

    def complete(self, requests: Iterator[Request], parameters: Parameters, keep: Keep) -> None:
        """Answer requests, handing each answer over as soon as it is there, in any order."""
        ...


class Known(Protocol):
    """Where answers are kept: the store, or anything that can be asked like it."""

    def get(self, key: str) -> Any | None: ...

    def has(self, key: str) -> bool: ...

    def put(self, key: str, value: Any) -> None: ...


@dataclass
class Budget:
    """Dollars that may be spent from now on, and what has been; several askers may share it."""

    most: float | None = None
    spent: float = 0.0
    under_way: float = 0.0
    """What the calls under way cost at most."""
    closed: bool = False
    """Nothing more is to be asked for."""
    _lock: Lock = field(default_factory=Lock)

    def reserve(self, dollars: float) -> bool:
        """Whether a call may be made that costs this at most."""
        with self._lock:
            passed = self.most is not None and self.spent + self.under_way + dollars > self.most
            if not (passed or self.closed):
                self.under_way += dollars
            return not (passed or self.closed)

    def settle(self, reserved: float, dollars: float) -> None:
        """A call was made, at this cost."""
        with self._lock:
            self.under_way -= reserved
            self.spent += dollars


@dataclass
class Usage:
    """What the answers in use took, whenever they were asked for."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    models: set[str] = field(default_factory=set)

    def add(self, completion: Completion) -> None:
        self.calls += 1
        self.input_tokens += completion.input_tokens
        self.output_tokens += completion.output_tokens
        self.cached_tokens += completion.cached_tokens
        self.seconds += completion.seconds
        if completion.model:
            self.models.add(completion.model)

    def cost(self, price: Price | None) -> float | None:
        """Dollars, where a price is known."""
        return price.cost(self.input_tokens, self.output_tokens, self.cached_tokens) if price else None


@dataclass
class Asker:
    """Asks a backend what the store does not know."""

    backend: Backend
    parameters: Parameters
    store: Known
    price: Price | None = None
    budget: Budget = field(default_factory=Budget)
    usage: Usage = field(default_factory=Usage)

    def key(self, request: Request) -> str:
        """Of a completion in the store: everything that is sent, and to whom."""
        sent = [self.backend.key, request.messages, self.parameters.model_dump()]
        return digest(["completion", *sent, *([] if request.seed is None else [request.seed])])

    def unknown(self, requests: Sequence[Request]) -> list[Request]:
        """Those that would be asked, neighbours sharing the longest beginnings (for prefix caches)."""
        return _sorted(r for r in set(requests) if not self.store.has(self.key(r)))

    def ask(self, requests: Sequence[Request], label: str, line: Line | None = None) -> list[Completion]:
        """The completion of every request, in turn.

        Args:
            requests: equal ones are asked once.
            label: of the progress line.
            line: a line that several calls of this share, in place of one of its own.

        Raises:
            Stopped: the budget does not reach; what was answered is kept.
            Unavailable: the server keeps failing; what was answered is kept.
        """
        keys = {request: self.key(request) for request in requests}
        missing = _sorted(r for r, key in keys.items() if not self.store.has(key))
        shown = line or Line(label, len(missing))
        answered = 0

        def affordable() -> Iterator[Request]:
            for request in missing:
                if not self.budget.reserve(self._worst(request)):
                    return
                yield request

        def keep(request: Request, completion: Completion) -> None:
            nonlocal answered
            self.store.put(keys[request], dict(vars(completion)))
            self.budget.settle(self._worst(request), self._cost(completion))
            answered += 1
            shown.advance()

        if missing:
            self.backend.complete(affordable(), self.parameters, keep)
        if not line:
            shown.close()
        if answered < len(missing):
            raise Stopped(
                f"--max-cost {self.budget.most or 0:g} reached: {answered} of {len(missing)} calls made for "
                f"${self.budget.spent:.4f}; give the same command again to go on"
            )
        found = {request: _completion(self.store.get(key)) for request, key in keys.items()}
        for completion in found.values():
            self.usage.add(completion)
        return [found[request] for request in requests]

    def _cost(self, completion: Completion) -> float:
        if self.price is None:
            return 0.0
        return self.price.cost(completion.input_tokens, completion.output_tokens, completion.cached_tokens)

    def _worst(self, request: Request) -> float:
        """Dollars that a call costs at most: a token has at least about two characters."""
        if self.price is None:
            return 0.0
        return self.price.cost(2 * request.likely_tokens, self.parameters.max_tokens)


def _sorted(requests: Iterable[Request]) -> list[Request]:
    return sorted(requests, key=lambda r: (r.system, r.user))


def _completion(value: Any) -> Completion:
    """As it was kept."""
    return Completion(**{**value, "top": tuple((token, logprob) for token, logprob in value["top"])})
