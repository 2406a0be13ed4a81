"""A trained adapter behind a real vLLM server (`make test-live`): the same greedy texts as in process."""

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.judge.servers import Server
from fspo_bench.lm.asked import ask
from fspo_bench.lm.generate import Asked, generate
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen, shots_context
from fspo_bench.lm.train import Encoded, Stage, train_stage
from fspo_bench.packs import builtin_root
from fspo_bench.serving import Served
from fspo_bench.store import Store

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]
TASK = load_task(builtin_root() / "tasks" / "roleplay")
TOKENS = 24


@pytest.fixture(autouse=True)
def own_home() -> None:
    """The user's own models."""


@contextmanager
def answering(served: Served, port: int, log: Path) -> Iterator[str]:
    """The command that `fspo-bench serve` prints, on a CPU, where `vllm serve` itself does not start."""
    _, _, model, *words = served.command(port)
    words = ["-m", "vllm.entrypoints.openai.api_server", "--model", model, *words]
    words += ["--enforce-eager", "--max-model-len", "2048"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as out:
        server = subprocess.Popen(
            [Path(os.environ["VLLM_VENV"]) / "bin" / "python", *words],
            stdout=out,
            stderr=out,
            env=environment,
        )
    try:
        for _ in range(900):
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def trained(policy: Policy, encoder: PromptEncoder, store: Store) -> Path:
    """An adapter that a few steps of supervised fine-tuning have moved: short answers."""
    episodes = [
        Encoded(
            encoder.prefix(shots_context(Seen(e.shots, show_rejected=False))),
            tuple(encoder.branch(q.prompt, f"My friend, {q.chosen.split('.')[0]}.") for q in e.queries),
        )
        for e in TASK.train_episodes(1, 2, 3, 0)
    ]
    train_stage(policy, Stage("sft", 3, 3e-3), episodes, 4, store)
    return store.folder_path(policy.state)


def test_the_server_and_this_process_write_the_same(tmp_path: Path) -> None:
    policy = Policy.open("smollm2-135m", 16, "float32", seed=0)
    encoder = PromptEncoder(policy.tokenizer, TASK.spec.instruction)
    adapter = trained(policy, encoder, Store(tmp_path / "store"))
    questions = [
        (shots_context(Seen(e.shots, show_rejected=False)), q.prompt)
        for e in TASK.test_episodes(1, 2, 2, 0)
        for q in e.queries
    ] + [(Context(), "How should I spend a free Sunday?")]

    def here(state: str) -> list[str]:
        policy.state = state
        asked = [Asked(encoder.prefix(c), (encoder.question(prompt),)) for c, prompt in questions]
        written = generate(policy.model, asked, encoder.end, TOKENS)
        return [encoder.decode(ids) for ids in written]

    served = Served("base", policy.folder, policy.folder, "float32", {"adapter": adapter}, 16)
    with answering(served, int(os.environ.get("VLLM_PORT", "8011")) + 1, tmp_path / "log") as url:
        there = {
            name: ask(Server(name, base_url=url), TASK.spec.instruction, questions, TOKENS,
                      Store(tmp_path / name), name)
            for name in ("adapter", "base")
        }  # fmt: skip
    adapted, base = here(policy.state), here("")
    assert list(there["adapter"].values()) == adapted
    assert list(there["base"].values()) == base
    assert sum(a != b for a, b in zip(adapted, base, strict=True)) >= len(questions) - 1, "it was trained"
