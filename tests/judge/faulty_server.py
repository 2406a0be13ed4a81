"""A chat-completions server with faults on order, which counts what it was asked and what it answered."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Says = Callable[[str], tuple[str, dict[str, float]]]  # prompt -> text, P of first tokens
FAULTS = ("429", "500", "stall", "cut", "html", "no choices", "twice")


def prefers_longer(prompt: str) -> tuple[str, dict[str, float]]:
    """The longer of the two answers (of equal ones the later in the alphabet), at a probability of 0.9."""
    first = prompt.partition("## Answer `m`\n")[2].partition("\n\n")[0]
    second = prompt.partition("## Answer `M`\n")[2].partition("\n\n")[0]
    better, worse = ("m", "M") if (len(first), first) >= (len(second), second) else ("M", "m")
    return better, {better: 0.9, worse: 0.1}


class Server(ThreadingHTTPServer):
    """`faults` maps the n-th request (from 0) to what goes wrong with it."""

    daemon_threads = True

    def __init__(self, says: Says, faults: dict[int, str], logprobs: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says, self.faults, self.logprobs = says, faults, logprobs
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.answered: Counter[str] = Counter()  # by prompt, whole answers alone
        self.under_way = self.most_under_way = 0

    def answer(self, asked: dict[str, Any]) -> tuple[str, dict[str, float]]:
        return self.says(asked["messages"][-1]["content"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            fault = self.server.faults.get(len(self.server.requests), "")
            self.server.requests.append(asked)
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            time.sleep(0.005)
            self._answer(asked, fault)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def _answer(self, asked: dict[str, Any], fault: str) -> None:
        if fault == "stall":
            time.sleep(2)
            return
        if fault.isdecimal():
            self._send(
                int(fault), json.dumps({"error": {"message": f"fault {fault}"}}), {"Retry-After": "0.01"}
            )
            return
        if asked.get("logprobs") and not self.server.logprobs:
            self._send(400, json.dumps({"error": {"message": "logprobs are not supported"}}))
            return
        prompt = asked["messages"][-1]["content"]
        body = json.dumps(self._completion(asked))
        if fault == "cut":
            body = body[: len(body) // 2]
        elif fault == "html":
            body = "<html>busy</html>"
        elif fault == "no choices":
            body = json.dumps({"choices": []})
        else:
            with self.server.lock:
                self.server.answered[prompt] += 1
        self._send(200, body, repeat=2 if fault == "twice" else 1)

    def _completion(self, asked: dict[str, Any]) -> dict[str, Any]:
        text, likely = self.server.answer(asked)
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}}
        if asked.get("logprobs"):
            top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in likely.items()]
            choice["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "top_logprobs": top}]}
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        return {
            "id": "x",
            "object": "chat.completion",
            "model": "served",
            "choices": [choice],
            "usage": usage,
        }

    def _send(self, status: int, body: str, headers: dict[str, str] | None = None, repeat: int = 1) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body.encode())))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        for _ in range(repeat):  # beyond the length announced: a client must not read it as an answer
            self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(
    says: Says = prefers_longer, faults: dict[int, str] | None = None, logprobs: bool = True
) -> Iterator[Server]:
    """A server at work until the block ends."""
    server = Server(says, faults or {}, logprobs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
