"""The cards that are kept belong to these tasks and judges, and the page says what they say."""

from pathlib import Path

import pytest

from fspo_bench.data.task_files import load_task
from fspo_bench.evaluate.judge_cards import (
    BEGIN,
    END,
    JudgeCard,
    card_table,
    markdown,
    read_cards,
    write_card,
)
from fspo_bench.judge.offline import judge_key
from fspo_bench.packs import builtin_root
from tests.made import metric

ROOT = builtin_root()
CARDS = read_cards(ROOT / "leaderboards" / "judges")
TASKS = ("elix_easy", "elix_hard", "reviews", "roleplay")


def test_every_bundled_task_has_the_card_of_the_offline_judge_and_of_an_llm() -> None:
    assert sorted((c.task, c.judge) for c in CARDS) == sorted(
        (task, judge) for task in TASKS for judge in ("description", "offline")
    )


@pytest.mark.parametrize("card", CARDS, ids=lambda c: f"{c.task}-{c.judge}")
def test_a_kept_card_is_of_these_texts(card: JudgeCard) -> None:
    task = load_task(ROOT / "tasks" / card.task)
    assert card.task_hash == task.hash, (
        "measure the judge again: fspo-bench judge-card --out leaderboards/judges"
    )
    if card.judge == "offline":
        assert card.key == judge_key(task)


def test_the_page_says_what_the_cards_say() -> None:
    page = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0].strip() == markdown(CARDS), "make judge-cards"


def card(**changes: object) -> JudgeCard:
    fields: dict[str, object] = {
        "task": "t", "task_hash": "h", "judge": "mine", "model": "openai/org/model", "key": "k", "pairs": 12,
        "agreement": metric(81.0, 70.0, 92.0), "agreement_with_weak": None,
        "longest_answer": metric(50.0, 40.0, 60.0), "first_position": metric(50.0, 40.0, 60.0),
        "consistent": metric(90.0, 80.0, 100.0), "says_first": metric(55.0, 50.0, 60.0),
        "says_longer": metric(60.0, 50.0, 70.0), "without": {"abstained": 2}, "usage": None,
    }  # fmt: skip
    return JudgeCard.model_validate({**fields, **changes})


def test_a_judge_under_70_carries_a_warning() -> None:
    assert "warning" not in card_table([card()])
    assert "right on less than 70%" in card_table([card(agreement=metric(69.9, 60.0, 80.0))])
    assert "right on less than 70%" in card_table([card(agreement=None)])
    assert "2 abstained" in card_table([card()])


def test_a_card_is_kept_by_task_judge_and_model(tmp_path: Path) -> None:
    file = write_card(card(), tmp_path)
    assert file == tmp_path / "t" / "mine-model.json"
    assert read_cards(tmp_path) == [card()]
