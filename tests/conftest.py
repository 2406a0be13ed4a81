"""Shared fixtures: a tiny random model with a real tokenizer, a tiny task, a store of its own."""

import json
import random
from pathlib import Path

import pytest

from fspo_bench.presets import PRESETS, Preset

SMALL = Preset(
    "small", shots=2, queries=2, sft_contexts=2, contexts=2, test_users=4, test_questions=2, test_pairs=2,
    candidates=3, reward_steps=20,
)  # fmt: skip
"""A budget for made tasks and random models: `--preset small` in tests."""

WORDS = ["walk", "swim", "read", "cook", "build", "plan", "rest", "sing", "paint", "dig"]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's store."""
    home = tmp_path / "home"
    monkeypatch.setenv("FSPO_BENCH_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(PRESETS, "small", SMALL)
    return home


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with grouped heads and a chat template, saved as transformers saves."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|end|>", "<|user|>", "<|assistant|>"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*specials, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", additional_special_tokens=specials[1:]
    )
    fast.chat_template = (
        "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(alphabet) + len(specials), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
        eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def write_task(folder: Path, users: int = 12, questions: int = 12) -> Path:
    """A small structured task: two traits, four views and a weak answer a question."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    folder.joinpath("task.yaml").write_text(
        "version: 1\nsummary: A made task.\nlicense: CC0-1.0\nmax_new_tokens: 6\n"
        "weak_share: 0.2\nweak_penalty: 5\nmin_margin: 1\n"
    )
    splits = ["train", "test", "judge"]
    write_rows(
        folder / "users.jsonl",
        [
            {"user_id": f"u{n}", "split": splits[n % 3], "description": f"Likes {WORDS[n % 5]}.",
             "traits": {"out": rng.choice([-2, 2]), "calm": rng.choice([-1, 1])}}
            for n in range(users)
        ],
    )  # fmt: skip
    write_rows(
        folder / "questions.jsonl",
        [
            {"question_id": f"q{n}", "split": splits[n % 3], "prompt": f"What about thing {n}?"}
            for n in range(questions)
        ],
    )
    answers = []
    for n in range(questions):
        for k, (out, calm) in enumerate([(1, 1), (1, -1), (-1, 1), (-1, -1)]):
            text = f"{WORDS[k]} {WORDS[(n + k) % 10]} {n}."
            answers.append(
                {
                    "answer_id": f"q{n}/{k}",
                    "question_id": f"q{n}",
                    "text": text,
                    "loadings": {"out": out, "calm": calm},
                }
            )
        answers.append(
            {
                "answer_id": f"q{n}/weak",
                "question_id": f"q{n}",
                "text": f"Hm {n}.",
                "loadings": {},
                "weak": True,
            }
        )
    write_rows(folder / "answers.jsonl", answers)
    return folder


def write_rows(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def made_task(tmp_path: Path) -> Path:
    return write_task(tmp_path / "made")
