"""Generation behind a shared prefix writes the tokens of plain one-by-one decoding."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from fspo_bench.lm.generate import Asked, first_answer, generate, whole_sentences
from fspo_bench.lm.shared_context import causal_lm

END = 0


def _questions(n: int) -> list[tuple[int, ...]]:
    rng = random.Random(n)
    return [tuple(rng.randrange(3, 200) for _ in range(rng.randint(1, 12))) for _ in range(n)]


def _plain(model: torch.nn.Module, ids: tuple[int, ...], new: int, end: int) -> list[int]:
    out = model.generate(  # type: ignore[operator]
        torch.tensor([ids]), max_new_tokens=new, do_sample=False, eos_token_id=end, pad_token_id=end
    )[0, len(ids) :].tolist()
    return out[: out.index(end)] if end in out else out


@pytest.mark.parametrize("n", [1, 3, 7])
def test_greedy_tokens_equal_plain_generate(tiny_model: Path, n: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prefix, questions = tuple(range(5, 40)), _questions(n)
    written = generate(model, [Asked(prefix, tuple(questions))], END, max_new_tokens=20)
    assert written == [_plain(model, prefix + q, 20, END) for q in questions]


def test_several_users_decode_together(tiny_model: Path) -> None:
    """Contexts of different lengths, each row behind its own."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    asked = [Asked(tuple(range(5, 5 + n)), tuple(_questions(k))) for n, k in ((30, 2), (7, 4), (55, 1))]
    written = generate(model, asked, END, max_new_tokens=15)
    assert written == [_plain(model, a.prefix + q, 15, END) for a in asked for q in a.questions]


def test_rows_that_end_early_stop_and_others_go_on(tiny_model: Path) -> None:
    """The token that some row would write third is made the end token."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prefix, questions = tuple(range(5, 40)), _questions(5)
    free = generate(model, [Asked(prefix, tuple(questions))], END, max_new_tokens=12)
    end = free[0][2]
    written = generate(model, [Asked(prefix, tuple(questions))], end, max_new_tokens=12)
    assert written == [_plain(model, prefix + q, 12, end) for q in questions]
    assert len(written[0]) <= 2


def test_the_prefix_is_read_once_for_all_questions(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prefix, questions = tuple(range(5, 40)), _questions(6)
    generate(
        model, [Asked(prefix, tuple(questions))], END, max_new_tokens=1
    )  # the first use checks the model
    tokens = []
    layer = causal_lm(model).get_decoder().layers[0]
    handle = layer.register_forward_hook(lambda _m, inputs, _o: tokens.append(inputs[0].shape[:2].numel()))
    generate(model, [Asked(prefix, tuple(questions))], END, max_new_tokens=4)
    handle.remove()
    assert tokens[0] == len(prefix)
    assert tokens[1] == len(questions) * max(map(len, questions))
    assert tokens[2:] == [len(questions)] * 3


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two. Thr", "One. Two."),
        ("No end at all", "No end at all"),
        ("It costs 3.50 in all. And th", "It costs 3.50 in all."),
        ('He said "go." Then', 'He said "go."'),
        ("Done!", "Done!"),
        ("", ""),
    ],
)
def test_whole_sentences(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Plain text.", "Plain text."),
        ("## Response\nUnder a heading.", "Under a heading."),
        ("First. \n\n# Example 5\n## Question\nWhat?", "First."),
        ("A #1 idea, and C# too.", "A #1 idea, and C# too."),
        ("# Only a heading", ""),
    ],
)
def test_first_answer(text: str, kept: str) -> None:
    assert first_answer(text) == kept


def test_no_three_tokens_repeat_when_asked(tiny_model: Path) -> None:
    """The random model loops when it decodes freely, and no longer when asked not to."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    asked = [Asked(tuple(range(5, 40)), tuple(_questions(3)))]
    free = generate(model, asked, END, max_new_tokens=60)
    kept = generate(model, asked, END, max_new_tokens=60, no_repeat=3)

    def trigrams(ids: list[int]) -> list[tuple[int, ...]]:
        return [tuple(ids[k : k + 3]) for k in range(len(ids) - 2)]

    assert any(len(set(trigrams(ids))) < len(trigrams(ids)) for ids in free)
    assert all(len(set(trigrams(ids))) == len(trigrams(ids)) for ids in kept)
