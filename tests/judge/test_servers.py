"""An LLM judge against a server with faults: no verdict lost, none asked twice, counts add up."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Task
from fspo_bench.errors import Stopped, Unavailable, UserError
from fspo_bench.judge.card import comparisons
from fspo_bench.judge.llm import LlmJudge
from fspo_bench.judge.opening import Chosen, open_judge
from fspo_bench.judge.pairs import some_pairs
from fspo_bench.judge.verdicts import Comparison, Verdict
from fspo_bench.packs import builtin_judge
from fspo_bench.store import Store
from tests.conftest import write_task
from tests.judge.faulty_server import FAULTS, Server, prefers_longer, serving

MODEL = "openai/gpt-4o-2024-08-06"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load_task(write_task(tmp_path_factory.mktemp("made") / "made"))


@pytest.fixture
def asked(task: Task) -> list[Comparison]:
    return comparisons(p for of_user in some_pairs(task, 20) for p in of_user)


Opens = Callable[..., LlmJudge]


@pytest.fixture
def judge_at(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opens]:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setattr("fspo_bench.judge.servers.SPOILT_PAUSE", 0.001)
    monkeypatch.setattr("openai._constants.INITIAL_RETRY_DELAY", 0.001, raising=False)

    def judge_at(
        server: Server, name: str = "description", max_cost: float | None = None, **limits: float
    ) -> LlmJudge:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        judge = open_judge(Chosen(builtin_judge(name), MODEL, max_cost), task, Store(tmp_path / "store"))
        assert isinstance(judge, LlmJudge)
        for limit, value in {"timeout": 1.0, "retries": 3, **limits}.items():
            setattr(judge.asker.backend, limit, value)
        return judge

    yield judge_at


def told(verdicts: list[Verdict]) -> list[float | None]:
    return [v.win for v in verdicts]


def test_every_fault_is_got_over_and_nothing_is_asked_twice(judge_at: Opens, asked: list[Comparison]) -> None:
    with serving() as server:
        clean = judge_at(server).verdicts(asked)
        plain = len(server.requests)
    assert plain == 2 * len(set(asked)), "one call for each order"
    with serving(faults={3 * n: fault for n, fault in enumerate(FAULTS)}) as server:
        judge = judge_at(server)
        judge = replace(
            judge, asker=replace(judge.asker, store=Store(judge.asker.store.root.parent / "other"))
        )
        assert judge.verdicts(asked) == clean
        assert len(server.answered) == plain and set(server.answered.values()) == {1}
        assert len(server.requests) == plain + len(FAULTS) - 1, (
            "all faults but the repeated body are asked again"
        )
        assert judge.asker.usage.calls == plain
        before = len(server.requests)
        assert judge.verdicts(asked) == clean
        assert len(server.requests) == before
        assert server.most_under_way <= 16
    assert all(v.consistent for v in clean), "this model knows no places"
    assert told(clean) == [float((len(c.a), c.a) > (len(c.b), c.b)) for c in asked]


def test_a_server_without_logprobs_is_read_by_its_text(judge_at: Opens, asked: list[Comparison]) -> None:
    with serving(logprobs=False) as server:
        found = judge_at(server).verdicts(asked)
        assert {p for v in found for p in v.orders} <= {0.0, 1.0}
        refused = [r for r in server.requests if r.get("logprobs")]
        assert 1 <= len(refused) <= 16, "it is not offered log-probabilities again once it has refused"


def test_wrong_text_is_no_loss_for_either_side(judge_at: Opens, asked: list[Comparison]) -> None:
    def says(prompt: str) -> tuple[str, dict[str, float]]:
        return "Both are fine.", {"Both": 0.9}

    with serving(says) as server:
        found = judge_at(server).verdicts(asked)
        assert {(v.win, v.reason) for v in found} == {(None, "unparsed")}
        judge_at(server).verdicts(asked)
        assert len(server.requests) == 2 * len(set(asked)), "kept raw, not asked again"


def test_a_position_bias_is_seen_and_earns_nothing(judge_at: Opens, asked: list[Comparison]) -> None:
    with serving(lambda _: ("m", {"m": 0.8, "M": 0.2})) as server:
        found = judge_at(server).verdicts(asked)
    assert set(told(found)) == {0.5}
    assert {v.consistent for v in found} == {False}
    assert {v.p for v in found} == {0.5}


def test_a_bad_request_is_a_refusal_with_a_reason(judge_at: Opens, asked: list[Comparison]) -> None:
    with serving(faults=dict.fromkeys(range(1000), "400")) as server:
        found = judge_at(server).verdicts(asked[:2])
        assert {v.reason for v in found} == {"refused"}
        assert len(server.requests) == 4


def test_a_server_that_keeps_failing_is_said_and_what_was_answered_is_kept(
    judge_at: Opens, asked: list[Comparison]
) -> None:
    with serving(faults=dict.fromkeys(range(10, 10000), "500")) as server:
        with pytest.raises(Unavailable, match=r"HTTP 500.*2 tries.*same command again"):
            judge_at(server, concurrency=1, retries=1).verdicts(asked)
        kept = len(server.answered)
        assert kept == 10
        server.faults = {}
        judge_at(server).verdicts(asked)
        assert set(server.answered.values()) == {1}


@pytest.mark.parametrize("status", ["401", "404"])
def test_a_wrong_key_or_model_is_one_sentence(judge_at: Opens, asked: list[Comparison], status: str) -> None:
    wrong = pytest.raises(UserError, match=f"HTTP {status}.*check OPENAI_API_KEY")
    with serving(faults=dict.fromkeys(range(1000), status)) as server, wrong:
        judge_at(server).verdicts(asked)


def test_no_key_and_no_server_is_said(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    judge = open_judge(Chosen(builtin_judge("paper")), task, Store(tmp_path))
    with pytest.raises(UserError, match="no OPENAI_API_KEY in the environment"):
        judge.verdicts(comparisons(p for of_user in some_pairs(task, 2) for p in of_user))


def test_the_budget_is_never_passed_and_the_same_command_goes_on(
    judge_at: Opens, asked: list[Comparison]
) -> None:
    """A call costs 100 tokens x $2.5 + 1 x $10 per million."""
    a_call = 0.00026
    with serving() as server:
        spent = 0.0
        for _ in range(100):
            judge = judge_at(server, max_cost=0.005)
            try:
                found = judge.verdicts(asked)
                break
            except Stopped as stopped:
                assert re.search(r"--max-cost 0.005 reached: \d+ of \d+ calls made", str(stopped))
                assert 0 < judge.asker.budget.spent <= 0.005
                spent += judge.asker.budget.spent
        else:
            pytest.fail("never finished")
        assert set(server.answered.values()) == {1}
        assert None not in told(found)
        assert len(server.requests) * a_call == pytest.approx(spent + judge.asker.budget.spent)


def test_requests_that_begin_alike_follow_each_other(judge_at: Opens, asked: list[Comparison]) -> None:
    """For the prefix caches of servers: description and question come first, and requests are sorted."""
    with serving(prefers_longer) as server:
        judge_at(server, concurrency=1).verdicts(asked)
        prompts = [r["messages"][-1]["content"] for r in server.requests]
    assert prompts == sorted(prompts)
    begins = [p.partition("## Answer `m`")[0] for p in prompts]
    changes = sum(a != b for a, b in pairwise(begins))
    assert changes == len(set(begins)) - 1
