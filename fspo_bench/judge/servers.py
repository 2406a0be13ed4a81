"""Any OpenAI-compatible server: hosted, vLLM, llama.cpp. Its key comes from the environment."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fspo_bench.errors import Unavailable, UserError
from fspo_bench.judge.calls import Completion, Keep, Request
from fspo_bench.judge.spec import Parameters

SPOILT_PAUSE = 0.5  # seconds before a spoilt answer is asked for again, doubled each time


@dataclass
class Server:
    """`OPENAI_BASE_URL` (default: OpenAI's), `OPENAI_API_KEY`; `model` is the name it serves.

    A server with an address of its own (`base_url`) has a key of its own: `OPENAI_API_KEY_` and its host in
    capitals (`OPENAI_API_KEY_LLM_EXAMPLE_ORG`). No key is sent to a server that it was not meant for.
    """

    model: str
    concurrency: int = 16
    timeout: float = 60.0
    retries: int = 6
    base_url: str = ""
    _without: set[str] = field(default_factory=set)
    """Parameters that the server turned out not to know."""

    @property
    def key(self) -> str:
        return f"openai/{self.model}"

    def complete(self, requests: Iterator[Request], parameters: Parameters, keep: Keep) -> None:
        """Answer requests, `concurrency` at a time.

        Raises:
            UserError: no key, a wrong one, or no such model.
            Unavailable: a request failed after all retries.
        """
        asyncio.run(self._complete(requests, parameters, keep))

    async def _complete(self, requests: Iterator[Request], parameters: Parameters, keep: Keep) -> None:
        from openai import AsyncOpenAI

        async with AsyncOpenAI(
            api_key=self.api_key(), base_url=self.base_url or None, timeout=self.timeout,
            max_retries=self.retries,
        ) as client:  # fmt: skip

            async def worker() -> None:
                for request in requests:
                    keep(request, await self._one(client, request, parameters))

            workers = [asyncio.ensure_future(worker()) for _ in range(self.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for each in workers:
                    each.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def api_key(self) -> str:
        """What the server is sent as a key.

        Raises:
            UserError: there is none for OpenAI's own server.
        """
        if self.base_url:
            host = re.sub(r"\W", "_", urlsplit(self.base_url).hostname or "").upper()
            return os.environ.get(f"OPENAI_API_KEY_{host}") or "none"
        key = os.environ.get("OPENAI_API_KEY")
        if not key and not os.environ.get("OPENAI_BASE_URL"):
            raise UserError(
                "no OPENAI_API_KEY in the environment; set it, or OPENAI_BASE_URL for a server of your own"
            )
        return key or "none"

    async def _one(self, client: Any, request: Request, parameters: Parameters) -> Completion:
        """One answer. The client itself retries 429, 5xx, timeouts and lost connections."""
        import openai

        for spoilt in range(self.retries + 1):
            start = time.monotonic()
            given = parameters.model_dump(exclude_none=True) | _seed_of(request)
            sent = {k: v for k, v in given.items() if k not in self._without}
            if not sent.get("logprobs"):
                sent.pop("logprobs", None)
            try:
                raw = await client.chat.completions.with_raw_response.create(
                    model=self.model, messages=request.messages, **_known(sent), extra_body=_further(sent)
                )
                return _completion(json.loads(raw.content), time.monotonic() - start)
            except (json.JSONDecodeError, UnicodeDecodeError, _Spoilt):
                await asyncio.sleep(SPOILT_PAUSE * 2**spoilt)
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
                raise UserError(
                    f"{self.key} at {client.base_url}: {_said(error)}; check OPENAI_API_KEY, OPENAI_BASE_URL "
                    "and the model's name"
                ) from None
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if "logprob" in str(error) and "logprobs" in sent:
                    self._without |= {"logprobs", "top_logprobs"}
                    continue
                if "seed" in str(error) and "seed" in sent:
                    self._without |= {"seed"}
                    continue
                return Completion("", refused=_said(error))
            except openai.APIError as error:
                raise Unavailable(
                    f"{self.key} at {client.base_url} keeps failing ({_said(error)}, {self.retries + 1} "
                    "tries); what was answered is kept, give the same command again to go on"
                ) from None
        raise Unavailable(
            f"{self.key} at {client.base_url} keeps sending what is no completion ({self.retries + 1} "
            "tries); what was answered is kept, give the same command again to go on"
        )


class _Spoilt(Exception):
    """An answer that is JSON but no completion."""


def _completion(answer: Any, seconds: float) -> Completion:
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        text = choice["message"]["content"] or ""
        first = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs") or []
        top = tuple((str(t["token"]), float(t["logprob"])) for t in first)
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Completion(
            text=str(text), top=top, seconds=round(seconds, 3), model=str(answer.get("model") or ""),
            input_tokens=int(usage.get("prompt_tokens") or 0), cached_tokens=int(cached),
            output_tokens=int(usage.get("completion_tokens") or 0),
        )  # fmt: skip
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise _Spoilt from None


def _seed_of(request: Request) -> dict[str, int]:
    return {} if request.seed is None else {"seed": request.seed}


def _known(sent: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sent.items() if k in Parameters.model_fields}


def _further(sent: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sent.items() if k not in Parameters.model_fields}


def _said(error: Exception) -> str:
    """The first line of an error, with its HTTP status."""
    status = getattr(error, "status_code", None)
    return f"{f'HTTP {status}: ' if status else ''}{str(error).strip().splitlines()[0][:200]}"
