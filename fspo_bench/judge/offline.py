"""The offline judge: P(this user prefers answer a to answer b), with no network and no key.

It reads the question and one answer at a time and predicts which traits the answer speaks to, and
how weak it is: ridge regression from the frozen hidden states of SmolLM2 (from what the words mean where
a task's texts are of a few hundred, `micro`). An answer's worth to a
user is the user's true traits times the predicted loadings, less the task's penalty for weakness;
P is a logistic of the difference in worth. Answers are scored one by one, so position cannot
matter, and no method's name is ever seen.

It learns from the task's judge-only questions and users. Its accuracy is measured on labels it has
never seen: test users, test questions, texts of both.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file, save_file

from fspo_bench.data.micro import VERSION as LEXICON_VERSION
from fspo_bench.data.micro import read_lexicon
from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Answer, Task, User
from fspo_bench.judge.pairs import determined_pairs
from fspo_bench.judge.verdicts import Comparison, Verdict, settled
from fspo_bench.lm.models import WHEELS, model_dir
from fspo_bench.progress import say, track
from fspo_bench.store import Store, building, digest

Array = NDArray[np.float32]
Text = tuple[str, str]  # question, answer

READER = "smollm2-135m"
VERSION = 1  # raise when a verdict can change
LAYERS = slice(16, 30)  # hidden states of the frozen reader that enter the features
RIDGE = {"states": 1.0, "lexicon": 1e-3}
CUT = {"states": 10, "lexicon": 3}
"""Words that an answer cut off is left at most: in a micro answer the fourth says something already."""
WEAK = "weak"  # the target beside the traits
FILE = "judge.safetensors"


@dataclass(frozen=True)
class OfflineJudge:
    """A fitted judge of one task; `key` changes whenever a verdict can."""

    task: Task
    store: Store
    key: str
    targets: tuple[str, ...]
    weights: dict[str, Array]
    name: str = "offline"
    _known: dict[Text, Array] = field(default_factory=dict)

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {q.prompt: q.kind for q in self.task.questions.values()}

    def loadings(self, texts: Sequence[Text]) -> dict[Text, Array]:
        """Predicted targets of each text, shape (targets,), from the store where known."""
        unknown = [text for text in texts if text not in self._known]
        keys = {text: digest(["judge", self.key, list(text)]) for text in unknown}
        stored = {text: self.store.get(key) for text, key in keys.items()}
        if missing := [text for text, value in stored.items() if value is None]:
            for text, row in _read(self.task, missing):
                value = (row - self.weights["mean"]) / self.weights["sd"] @ self.weights[
                    "slope"
                ] + self.weights["offset"]
                stored[text] = [round(float(x), 5) for x in value]
                self.store.put(keys[text], stored[text])
        self._known.update({text: np.array(value, dtype=np.float32) for text, value in stored.items()})
        return {text: self._known[text] for text in texts}

    def probability(self, user_id: str, question: str, a: Array, b: Array) -> float:
        """P(user prefers the answer with loadings `a` to the one with loadings `b`)."""
        user, kind = self.task.users[user_id], self._kinds[question]
        more = _worth(self.task, user, kind, self.targets, a) - _worth(self.task, user, kind, self.targets, b)
        return float(1 / (1 + np.exp(-float(self.weights["scale"][0]) * more)))

    def worths(self, user_id: str, question: str, texts: Sequence[str]) -> list[float]:
        """What each answer is worth to the user, on the judge's own scale; an empty one nothing at all."""
        read = self.loadings([(question, text) for text in texts if text])
        user, kind = self.task.users[user_id], self._kinds[question]
        return [
            _worth(self.task, user, kind, self.targets, read[question, text]) if text else -np.inf
            for text in texts
        ]

    def verdicts(self, comparisons: Sequence[Comparison], label: str = "") -> list[Verdict]:
        """P(a preferred to b) for each comparison."""
        read = self.loadings(sorted({(c.question, t) for c in comparisons for t in (c.a, c.b) if t}))

        def verdict(c: Comparison) -> Verdict:
            texts = (c.question, c.a), (c.question, c.b)
            return settled(c.a, c.b) or Verdict(
                (self.probability(c.user_id, c.question, *(read[t] for t in texts)),)
            )

        return [verdict(c) for c in comparisons]


def open_offline(task: Task, store: Store) -> OfflineJudge:
    """The task's judge: the shipped one if it belongs to these texts, else fitted once and stored."""
    key, shipped = judge_key(task), task.folder / FILE
    if shipped.is_file() and key_of(shipped) == key:
        return _load(task, store, shipped, key)
    if not store.has_folder(key):
        say("judge: fitting on the judge-only questions")
        with building(store.folder_path(key)) as folder:
            fit(task, folder / FILE, key)
    return _load(task, store, store.folder_path(key) / FILE, key)


def judge_key(task: Task) -> str:
    """Names the judge by everything it learns from and reads with."""
    reader = WHEELS[READER] if task.spec.judge_reads == "states" else f"lexicon {LEXICON_VERSION}"
    return digest(["judge", VERSION, reader, _training_data(task)])


def _training_data(task: Task) -> list[object]:
    questions = sorted(task.questions_of("judge"), key=lambda q: q.question_id)
    answers = [[q.prompt, [a.model_dump() for a in task.answers_to[q.question_id]]] for q in questions]
    users = [sorted(u.traits.items()) for u in task.users_of("judge")]
    scale = [task.spec.nearest] if task.spec.nearest else []
    return [answers, users, task.spec.weak_penalty, task.spec.min_margin, *scale]


def fit(task: Task, file: Path, key: str) -> None:
    """Ridge regression of loadings and weakness on features, then the slope of the logistic."""
    targets = _targets(task)
    examples = [
        ((q.prompt, a.text), a) for q in task.questions_of("judge") for a in task.answers_to[q.question_id]
    ]
    examples += _spoilt(examples, CUT[task.spec.judge_reads])
    read = dict(_read(task, [text for text, _ in examples]))
    x = np.stack([read[text] for text, _ in examples])
    y = np.array(
        [[float(a.weak) if t == WEAK else a.loadings.get(t, 0.0) for t in targets] for _, a in examples]
    )
    mean, sd = x.mean(0), x.std(0) + 1e-6
    z, offset = (x - mean) / sd, y.mean(0)
    dual = np.linalg.solve(z @ z.T / z.shape[1] + RIDGE[task.spec.judge_reads] * np.eye(len(z)), y - offset)
    weights = {"mean": mean, "sd": sd, "slope": z.T @ dual / z.shape[1], "offset": offset}
    # The logistic's slope comes from questions the regression did not see: folds by question.
    scale = _slope(task, targets, examples, z, y)
    tensors = {
        k: np.ascontiguousarray(v, dtype=np.float32)
        for k, v in {**weights, "scale": np.array([scale])}.items()
    }
    save_file(tensors, file, {"key": key, "targets": " ".join(targets)})


def _worth(task: Task, user: User, kind: str, targets: Sequence[str], predicted: ArrayLike) -> float:
    """What an answer with predicted targets is worth to a user."""
    loadings = dict(zip(targets, np.asarray(predicted, dtype=float).tolist(), strict=True))
    weak = loadings.pop(WEAK)
    return task.worth(user, kind, loadings, weak)


def _targets(task: Task) -> tuple[str, ...]:
    traits = sorted(
        {t for q in task.questions_of("judge") for a in task.answers_to[q.question_id] for t in a.loadings}
    )
    return (*traits, WEAK)


def _spoilt(examples: Sequence[tuple[Text, Answer]], cut: int) -> list[tuple[Text, Answer]]:
    """Weak by construction: answers to another question, cut off after 3 to `cut` words, or in circles."""
    rng = random.Random("spoilt answers")
    good = [(text, a) for text, a in examples if not a.weak]
    spoilt = []
    for (question, text), answer in rng.sample(good, len(good) // 3):
        words = text.split()
        other = rng.choice([t for (q, t), _ in good if q != question])
        circle = " ".join(words[: len(words) // 3] * 3)
        worse = rng.choice([other, circle, " ".join(words[: rng.randint(3, cut)])])
        spoilt.append(((question, worse), answer.model_copy(update={"loadings": {}, "weak": True})))
    return spoilt


def _slope(
    task: Task,
    targets: tuple[str, ...],
    examples: Sequence[tuple[Text, Answer]],
    z: Array,
    y: NDArray[np.float64],
) -> float:
    """Maximum-likelihood slope of P on cross-fitted worth differences of judge users and questions."""
    from scipy.optimize import minimize_scalar

    questions = [text[0] for text, _ in examples]
    fold = np.array([random.Random(q).randrange(5) for q in questions])
    predicted, ridge = np.zeros_like(y), RIDGE[task.spec.judge_reads]
    for k in range(5):
        train, held = fold != k, fold == k
        kernel = z[train] @ z[train].T / z.shape[1] + ridge * np.eye(int(train.sum()))
        offset = y[train].mean(0)
        predicted[held] = (
            z[held] @ z[train].T / z.shape[1] @ np.linalg.solve(kernel, y[train] - offset) + offset
        )
    place = {answer.answer_id: n for n, (_, answer) in reversed(list(enumerate(examples)))}
    differences = []
    for user in task.users_of("judge"):
        for pair in determined_pairs(task, user, "judge", random.Random(user.user_id), per_question=2):
            kind = task.questions[pair[0].question_id].kind
            a, b = (_worth(task, user, kind, targets, predicted[place[x.answer_id]]) for x in pair)
            differences.append(a - b)
    d = np.array(differences)
    found = minimize_scalar(lambda s: np.logaddexp(0, -s * d).mean(), bounds=(1e-3, 10), method="bounded")
    return float(found.x)


def _read(task: Task, texts: Sequence[Text]) -> Iterable[tuple[Text, Array]]:
    """Features of each text."""
    return _read_states(texts) if task.spec.judge_reads == "states" else _read_lexicon(task, texts)


def _read_lexicon(task: Task, texts: Sequence[Text]) -> Iterable[tuple[Text, Array]]:
    """The targets themselves: words of a lexicon are read without error."""
    lexicon, targets = read_lexicon(task.folder), _targets(task)
    for question, answer in texts:
        loadings = lexicon.read(question, answer)
        said = {**loadings, WEAK: float(not loadings)}
        yield (question, answer), np.array([said.get(t, 0.0) for t in targets], dtype=np.float32)


def _read_states(texts: Sequence[Text]) -> Iterable[tuple[Text, Array]]:
    """The frozen reader's late hidden states, averaged over the answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    folder = model_dir(READER)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    decoder = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).get_decoder()
    ordered = sorted(dict.fromkeys(texts), key=lambda text: len(text[0]) + len(text[1]))
    batches = [ordered[i : i + 16] for i in range(0, len(ordered), 16)]
    for batch in track(batches, "judge reads"):
        questions = [tokenizer(q + "\n", add_special_tokens=False).input_ids for q, _ in batch]
        answers = [tokenizer(a or ".", add_special_tokens=False).input_ids for _, a in batch]
        width = max(len(q) + len(a) for q, a in zip(questions, answers, strict=True))
        ids = torch.tensor(
            [q + a + [0] * (width - len(q) - len(a)) for q, a in zip(questions, answers, strict=True)]
        )
        with torch.no_grad():
            states = torch.stack(decoder(input_ids=ids, output_hidden_states=True).hidden_states[LAYERS])
        for row, (q, a) in enumerate(zip(questions, answers, strict=True)):
            yield batch[row], states[:, row, len(q) : len(q) + len(a)].mean(1).flatten().numpy()


def key_of(file: Path) -> str:
    """The key a judge's file was fitted under."""
    from safetensors import safe_open

    with safe_open(file, "numpy") as opened:
        return str((opened.metadata() or {}).get("key", ""))


def _load(task: Task, store: Store, file: Path, key: str) -> OfflineJudge:
    return OfflineJudge(task, store, key, _targets(task), load_file(file))


if __name__ == "__main__":  # `make judge`: refit the judges that tasks ship
    for name in sys.argv[1:]:
        of = load_task(Path(name))
        fit(of, Path(name) / FILE, judge_key(of))
