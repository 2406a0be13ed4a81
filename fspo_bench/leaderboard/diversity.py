"""How alike several answers to one question are: what the paper's synthetic data owe to steering.

Four answers to each test question: of the untouched model at two temperatures, of the model steered by the
descriptions of four users, and four of the views that the task holds.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import numpy as np

from fspo_bench.data.tasks import Task
from fspo_bench.evaluate.compare import Place
from fspo_bench.lm.embed import sentence_embeddings
from fspo_bench.lm.outputs import samples
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder, description_context
from fspo_bench.presets import Preset
from fspo_bench.store import Store, digest

ANSWERS = 4
COOL, WARM, TOP_P = 0.3, 1.0, 1.0


def likeness(kind: str, task: Task, preset: Preset, store: Store) -> dict[str, dict[Place, float]]:
    """Mean and median cosine over the pairs of each question's answers; questions stand in users' place."""
    written = _answers(kind, task, preset, store)
    found: dict[str, dict[Place, float]] = {"mean": {}, "median": {}}
    for question_id, texts in sorted(written.items()):
        vectors = sentence_embeddings(texts, store)
        cosines = [float(a @ b) for a, b in itertools.combinations(vectors, 2)]
        place = (question_id, 0, question_id)
        found["mean"][place] = float(np.mean(cosines))
        found["median"][place] = float(np.median(cosines))
    return found


def _answers(kind: str, task: Task, preset: Preset, store: Store) -> dict[str, list[str]]:
    questions = task.questions_of("test")
    if kind == "views":
        return {q.question_id: [a.text for a in task.answers_to[q.question_id] if not a.weak][:ANSWERS]
                for q in questions}  # fmt: skip
    policy = Policy.open(preset.model, preset.lora_rank, preset.dtype, 0)
    encoder = PromptEncoder(policy.tokenizer, task.spec.instruction, preset.chat_template)

    def sampled(contexts: Sequence[Context], k: int, temperature: float) -> dict[str, list[str]]:
        asked = [(context, q.prompt) for q in questions for context in contexts]
        texts = samples(policy, encoder, asked, k, temperature, TOP_P, task.spec.max_new_tokens, store,
                        "answers to compare")  # fmt: skip
        return {
            q.question_id: [t for context in contexts for t in texts[context, q.prompt]] for q in questions
        }

    if kind == "persona":
        users = random.Random(digest(["personas", task.name])).sample(task.users_of("train"), ANSWERS)
        return sampled([description_context(u.description) for u in users], 1, WARM)
    return sampled([Context()], ANSWERS, COOL if kind == "cool" else WARM)
