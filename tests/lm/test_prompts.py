"""What the policy reads: the same ids in training, scoring and generation, whatever the question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fspo_bench.data.tasks import Preference
from fspo_bench.lm.prompts import Context, PromptEncoder, Seen, description_context, shots_context
from fspo_bench.lm.shared_context import Branch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTRUCTION = "Be brief."
SHOTS = (Preference("q1", "Where to?", "The sea.", "The town."), Preference("q2", "When?", "Now.", "Later."))
CONTEXTS = [
    Context(),
    shots_context(Seen(SHOTS)),
    shots_context(Seen(SHOTS, show_rejected=False)),
    description_context("Likes the sea."),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def merging() -> PreTrainedTokenizerBase:
    """A tokenizer that has one token for a line's end and the W after it, and marks each text's start."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate(["<|end|>", *alphabet, "\u010aW"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("\u010a", "W")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


def test_shots_layout() -> None:
    assert shots_context(Seen(SHOTS)).opening == (
        "# Example 1\n## Question\nWhere to?\n## Preferred Response\nThe sea.\n"
        "## Dispreferred Response\nThe town.\n\n"
        "# Example 2\n## Question\nWhen?\n## Preferred Response\nNow.\n"
        "## Dispreferred Response\nLater.\n\n"
        "# Task\nAnswer the way this user prefers, given the examples.\n## Question\n"
    )
    assert shots_context(Seen()).opening.startswith("# Task\n")


def test_preferred_answers_alone_are_earlier_turns() -> None:
    context = shots_context(Seen(SHOTS, show_rejected=False))
    assert context.turns == (("Where to?", "The sea."), ("When?", "Now."))
    assert "prefers" in context.system
    assert context.opening == ""


def test_description_layout() -> None:
    assert description_context("Likes the sea.").system.endswith("About the user: Likes the sea.")


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("instruction", ["", INSTRUCTION])
def test_segments_concatenate_to_the_rendered_template(
    tokenizer: PreTrainedTokenizerBase, context: Context, instruction: str
) -> None:
    encoder = PromptEncoder(tokenizer, instruction)
    system = f"{instruction} {context.system}".strip()
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in context.turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    rendered = tokenizer.apply_chat_template(
        [*messages, {"role": "user", "content": f"{context.opening}What now?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = encoder.prefix(context) + encoder.question("What now?") + encoder.answer("Swim.")
    assert tokenizer.decode(ids) == f"{rendered}Swim.<|end|>"
    assert list(ids[:1]) == [tokenizer.convert_tokens_to_ids("<|user|>")]  # marks are single tokens, not text


@pytest.mark.parametrize(
    ("context", "before"),
    [
        (Context(), "Be brief.\n\n## Question\n"),
        (shots_context(Seen(SHOTS)), f"Be brief.\n\n{shots_context(Seen(SHOTS)).opening}"),
        (
            Context(turns=(("When?", "Now."),)),
            "Be brief.\n\n## Question\nWhen?\n## Preferred Response\nNow.\n\n## Question\n",
        ),
        (Context(system="Be kind."), "Be brief. Be kind.\n\n## Question\n"),
    ],
)
def test_the_plain_form(tokenizer: PreTrainedTokenizerBase, context: Context, before: str) -> None:
    encoder = PromptEncoder(tokenizer, INSTRUCTION, chat_template=False)
    ids = encoder.prefix(context) + encoder.question("What now?") + encoder.answer("Swim.")
    assert tokenizer.decode(ids) == f"{before}What now?\n## Preferred Response\nSwim.<|end|>"


def test_without_a_template_the_plain_form_is_used(merging: PreTrainedTokenizerBase) -> None:
    one, other = (PromptEncoder(merging, INSTRUCTION, chat_template=flag) for flag in (True, False))
    assert one.question("When?") == other.question("When?")
    assert merging.decode(one.question("When?")).endswith("\n## Preferred Response\n")


def test_the_plain_form_begins_with_the_models_own_first_token(merging: PreTrainedTokenizerBase) -> None:
    merging.bos_token = "<|end|>"
    encoder = PromptEncoder(merging, "", chat_template=False)
    assert encoder.prefix(Context(opening="a")) == (
        merging.bos_token_id,
        *merging("a", add_special_tokens=False).input_ids,
    )


def test_a_model_always_reads_something(merging: PreTrainedTokenizerBase) -> None:
    merging.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    encoder = PromptEncoder(merging, "")
    assert encoder.prefix(Context()) == (encoder.end,)
    assert len(encoder.prefix(Context(opening="a"))) == 1


def test_no_token_spans_a_boundary(merging: PreTrainedTokenizerBase) -> None:
    """Tokenised at once, the context's last line end would be swallowed by the question's first letter."""
    encoder = PromptEncoder(merging, "", chat_template=False)
    context = shots_context(Seen(SHOTS))
    apart = encoder.prefix(context) + encoder.question("Why?")
    at_once = tuple(merging(merging.decode(apart), add_special_tokens=False).input_ids)
    assert len(at_once) == len(apart) - 1  # the merge is live ...
    assert apart[: len(encoder.prefix(context))] == encoder.prefix(context)
    assert at_once[: len(encoder.prefix(context))] != encoder.prefix(
        context
    )  # ... and would change the prefix
    assert merging.decode(at_once) == merging.decode(apart)


def test_a_branch_is_the_question_and_the_ended_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    encoder = PromptEncoder(tokenizer, INSTRUCTION)
    branch = encoder.branch("What now?", "Swim.")
    assert branch == Branch(encoder.question("What now?"), encoder.answer("Swim."))
    assert branch.scored.count(encoder.end) == 1
    assert branch.scored[-1] == encoder.end == tokenizer.eos_token_id


def test_decoding_drops_marks_and_outer_space(tokenizer: PreTrainedTokenizerBase) -> None:
    encoder = PromptEncoder(tokenizer, "")
    assert encoder.decode(encoder.answer("  Swim é.\n")) == "Swim é."
