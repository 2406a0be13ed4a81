"""Pre-trains the micro policy on a made-up world: `make micro`, about half an hour on two cores.

The world has the vocabulary of the tasks' micro versions and authors of its own. The model reads answers of
all kinds to all kinds of questions, chats in which the answers are to one author's liking, and descriptions
of authors before and after such chats: as a real base model has read the world. No author is a user of a
task, and no author's chat asks a test question.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fspo_bench.data.micro import TOPICS, WEAK, Writer, micro, of_kind, read_lexicon
from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Answer, Task
from fspo_bench.describe import REQUEST
from fspo_bench.lm.prompts import Seen, description_context, shots_context
from fspo_bench.progress import say, track

HERE = Path(__file__).parent
TASKS = {"roleplay": 2, "elix_easy": 1, "elix_hard": 5, "reviews": 1}  # and how often each is spoken of
SPECIALS = ["<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZES = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 4}  # fmt: skip
STEPS, BATCH, POOL, PEAK_LR = 4500, 24, 16, 3e-3
WEAK_SHARE = 0.03
KINDS_OF_A_CHAT = (1, 4)  # few, so that one comes up again
CHOICE = (2, 5)  # an author likes best one of so many
LIKED_SHARE = 0.6  # of an author's answers are to their liking, the others anyone's
TYPICAL_SHARE = 0.7  # of answers to nobody: as is usual for the topic


@dataclass(frozen=True)
class World:
    """What may be asked and answered in the language of one task."""

    writer: Writer
    kinds: tuple[str, ...]
    strengths: tuple[float, ...]
    """How strongly an answer may speak to a trait: as strongly as the task's do."""
    asked: frozenset[str]
    """The task's test questions, which no author's chat may hold."""

    @classmethod
    def of(cls, task: Task) -> World:
        traits = {k for u in task.users.values() for k in u.traits}
        lexicon = read_lexicon(task.folder)
        kinds = sorted({lexicon.family(q.kind) for q in task.questions.values() if q.kind in traits})
        strengths = sorted({abs(x) for a in task.answers.values() for x in a.loadings.values()})
        asked = frozenset(q.prompt for q in micro(task).questions_of("test"))
        return cls(Writer(lexicon, task.spec.nearest), tuple(kinds), tuple(strengths), asked)

    def author(self, rng: random.Random) -> dict[str, float]:
        """Traits of somebody; on a scale some have few fields: there a model learns to look one up."""
        if self.writer.scale:
            fields = rng.sample(self.kinds, rng.randint(1, len(self.kinds))) if self.kinds else ()
            return {k: float(rng.randint(1, 5)) for k in fields or (self.writer.scale,)}
        traits = list(self.writer.lexicon.traits)
        return {t: rng.choice([-2.0, -1.0, 1.0, 2.0]) for t in rng.sample(traits, min(6, len(traits)))}

    def view(self, rng: random.Random) -> dict[str, float]:
        """Loadings of some answer."""
        if self.writer.scale:
            return {self.writer.scale: float(rng.randint(1, 5))}
        traits = list(self.writer.lexicon.traits)
        chosen = rng.sample(traits, min(len(traits), rng.choice([2, 2, 3])))
        return {t: rng.choice([-1, 1]) * rng.choice(self.strengths) for t in chosen}

    def typical(self, topic: tuple[str, str]) -> dict[str, float]:
        """What is usually said of a topic: the world's knowledge."""
        a, b = (random.Random(word) for word in topic)
        if self.writer.scale:
            return {self.writer.scale: float((a.randint(1, 5) + b.randint(1, 5)) // 2)}
        traits = list(self.writer.lexicon.traits)
        return {rng.choice(traits): rng.choice([-1, 1]) * self.strengths[-1] for rng in (a, b)}

    def worth(self, author: dict[str, float], kind: str, view: dict[str, float]) -> float:
        """How much somebody wants an answer."""
        if self.writer.scale:
            return -abs(author.get(kind, author.get(self.writer.scale, 0.0)) - view[self.writer.scale])
        return sum(author.get(t, 0.0) * x for t, x in view.items())

    def turn(
        self, rng: random.Random, author: dict[str, float], kinds: list[str], choice: int
    ) -> tuple[str, str]:
        """A question and the answer that somebody likes best of `choice`."""
        topic, kind = (rng.choice(TOPICS), rng.choice(TOPICS)), rng.choice(kinds) if kinds else ""
        prompt = self.writer.question(topic, kind)
        if choice > 1 and prompt in self.asked:
            return self.turn(rng, author, kinds, choice)
        view = max((self.view(rng) for _ in range(choice)), key=lambda v: self.worth(author, kind, v))
        if choice == 1 and rng.random() < TYPICAL_SHARE:
            view = self.typical(topic)
        weak = choice == 1 and rng.random() < WEAK_SHARE
        answer = Answer(answer_id=str(rng.random()), question_id="", text="-",
                        loadings={} if weak else view, weak=weak)  # fmt: skip
        return prompt, self.writer.answer(topic, kind, answer)


def documents(worlds: list[World], rng: random.Random) -> Iterator[list[dict[str, str]]]:
    """Chats, without end."""
    while True:
        world = rng.choices(worlds, list(TASKS.values()))[0]
        author = world.author(rng)
        described = world.writer.description(author)
        kind = rng.choices(["answers", "mixed", "author", "described", "describing"], [25, 10, 25, 30, 10])[0]
        n = rng.randint(1, 2) if kind == "answers" else rng.randint(1, 9)
        choice = {"answers": 1, "mixed": 1, "described": 4}.get(kind, rng.choice(CHOICE))
        known = [k for k in world.kinds if k in author] or list(world.kinds)
        kinds = rng.sample(known, min(rng.randint(*KINDS_OF_A_CHAT), len(known)))
        liked = [choice if kind == "described" or rng.random() < LIKED_SHARE else 1 for _ in range(n)]
        turns = [world.turn(rng, author, kinds, of) for of in liked]
        system = {"author": shots_context(Seen(show_rejected=False)).system,
                  "described": description_context(described).system}.get(kind, "")  # fmt: skip
        if kind == "describing":
            system = shots_context(Seen(show_rejected=False)).system
            turns.append((REQUEST, described))
        said = [world.writer.lexicon.instruction, *([system] if system else [])]
        chat = [{"role": "system", "content": " ".join(said)}]
        for question, answer in turns:
            chat += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield chat


def tokenizer(worlds: list[World]) -> PreTrainedTokenizerFast:
    """A token a word."""
    said = " ".join(
        [shots_context(Seen(show_rejected=False)).system, description_context("").system, REQUEST,
         "0 1 2 3 4 5 6 7 8 9 ? : . ; , - < > | / #"]
    )  # fmt: skip
    words = [*TOPICS, *WEAK, *re.findall(r"\w+|[^\w\s]", said)]
    for writer, kinds in ((world.writer, world.kinds) for world in worlds):
        words += [writer.lexicon.instruction, *kinds, *writer.lexicon.words]
        words += [of_kind(word, kind) for kind in kinds if writer.scale for word in writer.lexicon.words]
    vocabulary = {word: n for n, word in enumerate([*SPECIALS, *sorted(set(words))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="<|end|>", pad_token="<|end|>",
        additional_special_tokens=SPECIALS[2:], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = TEMPLATE
    return fast


def batches(words: PreTrainedTokenizerFast, worlds: list[World], rng: random.Random) -> Iterator[list[str]]:
    """Chats of about one length together, so that little is padded."""
    source = documents(worlds, rng)
    while True:
        texts = sorted(
            (words.apply_chat_template(next(source), tokenize=False) for _ in range(BATCH * POOL)), key=len
        )
        for n in rng.sample(range(POOL), POOL):
            yield texts[n * BATCH : (n + 1) * BATCH]


def train(steps: int, out: Path, further: bool) -> None:
    """Pre-train and save in half precision; `further` goes on from the weights that lie there."""
    worlds = [World.of(load_task(HERE.parents[1] / "tasks" / name)) for name in TASKS]
    words = tokenizer(worlds)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=words.eos_token_id, **SIZES,
    )  # fmt: skip
    model = LlamaForCausalLM.from_pretrained(out).float() if further else LlamaForCausalLM(config)
    say(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(words)} words")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps, pct_start=0.05)
    source = batches(words, worlds, random.Random(int(further)))
    for step in track(range(steps), "pre-training"):
        batch = words(next(source), return_tensors="pt", padding=True, add_special_tokens=False)
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 250 == 249:
            say(f"step {step + 1}: loss {loss.item():.3f}")
    model.half().save_pretrained(out)
    words.save_pretrained(out)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, default=STEPS)
    arguments.add_argument("--further", action="store_true")
    given = arguments.parse_args()
    train(given.steps, HERE, given.further)
