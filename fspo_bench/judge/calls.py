"""Requests to a model that judges: asked once, kept raw before anything reads them, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from fspo_bench.errors import Stopped
from fspo_bench.judge.spec import Parameters, Price
from fspo_bench.progress import Line
from fspo_bench.store import Store, digest

CHARACTERS_A_TOKEN = 4  # a forecast's rule of thumb: other people's tokenizers are not at hand


@dataclass(frozen=True)
class Request:
    """One prompt; equal requests are one."""

    system: str
    user: str
    shared: str = ""
    """How the user message begins that other requests begin with, too."""

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


@dataclass
class Budget:
    """Dollars that may be spent from now on, and what has been."""

    most: float | None = None
    spent: float = 0.0

    def affords(self, dollars: float) -> bool:
        return self.most is None or self.spent + dollars <= self.most


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
    store: Store
    price: Price | None = None
    budget: Budget = field(default_factory=Budget)
    usage: Usage = field(default_factory=Usage)

    def key(self, request: Request) -> str:
        """Of a completion in the store: everything that is sent, and to whom."""
        sent = [self.backend.key, request.messages, self.parameters.model_dump()]
        return digest(["completion", *sent])

    def unknown(self, requests: Sequence[Request]) -> list[Request]:
        """Those that would be asked, neighbours sharing the longest beginnings (for prefix caches)."""
        return [
            r
            for r in sorted(set(requests), key=lambda r: (r.system, r.user))
            if not self.store.has(self.key(r))
        ]

    def ask(self, requests: Sequence[Request], label: str) -> dict[Request, Completion]:
        """The completion of every request.

        Raises:
            Stopped: the budget does not reach; what was answered is kept.
            Unavailable: the server keeps failing; what was answered is kept.
        """
        missing = self.unknown(requests)
        line = Line(label, len(missing))
        under_way = 0.0  # dollars at most

        def affordable() -> Iterator[Request]:
            nonlocal under_way
            for request in missing:
                if not self.budget.affords(under_way + self._worst(request)):
                    return
                under_way += self._worst(request)
                yield request

        def keep(request: Request, completion: Completion) -> None:
            nonlocal under_way
            self.store.put(self.key(request), asdict(completion))
            under_way -= self._worst(request)
            if self.price:
                self.budget.spent += self.price.cost(
                    completion.input_tokens, completion.output_tokens, completion.cached_tokens
                )
            line.advance()

        if missing:
            self.backend.complete(affordable(), self.parameters, keep)
        line.close()
        if line.done < len(missing):
            raise Stopped(
                f"--max-cost {self.budget.most:g} reached: {line.done} of {len(missing)} calls made for "
                f"${self.budget.spent:.4f}; give the same command again to go on"
            )
        return self._known(requests)

    def _known(self, requests: Sequence[Request]) -> dict[Request, Completion]:
        found = {}
        for request in dict.fromkeys(requests):
            value: dict[str, Any] = self.store.get(self.key(request)) or {}
            top = tuple((token, logprob) for token, logprob in value["top"])
            found[request] = Completion(**{**value, "top": top})
            self.usage.add(found[request])
        return found

    def _worst(self, request: Request) -> float:
        """Dollars that a call costs at most: a token has at least about two characters."""
        if self.price is None:
            return 0.0
        return self.price.cost(2 * request.likely_tokens, self.parameters.max_tokens)
