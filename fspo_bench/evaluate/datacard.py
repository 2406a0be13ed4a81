"""The figures of a task's data card, measured: `python -m fspo_bench.evaluate.datacard tasks/NAME`.

They say whether the task is personal, learnable and not a length game. The block between the
`figures` marks of the task's README.md is replaced by what was measured.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fspo_bench.data.task_files import load_task
from fspo_bench.data.tasks import Answer, Task, User
from fspo_bench.errors import UserError
from fspo_bench.evaluate.stats import Estimate, clustered_mean
from fspo_bench.judge.card import measure_judge
from fspo_bench.judge.offline import open_offline
from fspo_bench.lm.embed import cosines, sentence_embeddings
from fspo_bench.store import Store, write_atomic

Array = NDArray[np.float64]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
CERTAINTY = 1.5  # how firmly the ideal observer takes a label: sigmoid(1.5 x margin)


def figures(task: Task, store: Store) -> list[tuple[str, str]]:
    """(what, value) rows of the card."""
    users, questions = [u.split for u in task.users.values()], [q.split for q in task.questions.values()]
    rows = [("users (train / test / judge)", _split_counts(users))]
    if seen := users.count("seen"):
        rows = [("users (trained on and tested, new in the test)", f"{seen} / {users.count('test')}")]
    rows += [("questions (train / test / judge)", _split_counts(questions))]
    views = [a for a in task.answers.values() if not a.weak]
    words = [len(a.text.split()) for a in views]
    rows += [
        ("answers: views, weak", f"{len(views):,}, {len(task.answers) - len(views):,}"),
        ("words a view (mean, shortest, longest)", f"{np.mean(words):.1f}, {min(words)}, {max(words)}"),
        ("labelled preferences of train and test questions", f"{_reachable(task):,}"),
        ("share of drawn pairs that hold a weak answer", f"{100 * task.spec.weak_share:.0f}%"),
    ]
    similar = _similarities(task, store)
    rows += [
        (
            "similarity of views to one question (mean, median)",
            f"{similar.mean():.2f}, {np.median(similar):.2f}",
        )
    ]
    rows += [("longer view wins", _percent(longer_wins(task)))]
    for shots in (4, 8):
        rows += [(f"ideal observer, {shots} shots", _percent(ideal_observer(task, shots)))]
    rows += [("best population-only predictor", _percent(population_predictor(task)))]
    if task.questions_of("judge"):
        measured = measure_judge(open_offline(task, store), task)
        rows += [
            ("offline judge, two real views", _percent(measured.views.estimate())),
            ("offline judge, one answer weak", _percent(measured.with_weak.estimate())),
        ]
    return rows


def _split_counts(splits: Sequence[str]) -> str:
    return " / ".join(f"{splits.count(s):,}" for s in ("train", "test", "judge"))


def _percent(e: Estimate) -> str:
    counts = f"{e.n_users} users, {e.n_questions} questions, {e.n:,} pairs"
    return f"{e.value:.1f}% [{e.low:.1f}, {e.high:.1f}] ({counts})"


def pairs_of(task: Task, splits: Sequence[str], weak: bool = False) -> Iterator[tuple[Answer, Answer]]:
    """Every two answers to each question of the splits; views only, unless `weak`."""
    for question in task.questions.values():
        if question.split in splits:
            for a, b in itertools.combinations(task.answers_to[question.question_id], 2):
                if weak or not (a.weak or b.weak):
                    yield a, b


def margins_of(task: Task, users: Sequence[User], pairs: Sequence[tuple[Answer, Answer]]) -> Array:
    """Utility of the first minus the second answer: (users, pairs)."""
    answers = list({a.answer_id: a for pair in pairs for a in pair}.values())
    worth = np.array([[task.utility(user, a) for a in answers] for user in users])
    column = {a.answer_id: n for n, a in enumerate(answers)}
    margins: Array = (
        worth[:, [column[a.answer_id] for a, _ in pairs]] - worth[:, [column[b.answer_id] for _, b in pairs]]
    )
    return margins


def labels_of(task: Task, margins: Array) -> Array:
    """1 where the first answer is preferred, -1 where the second is, 0 where under-determined."""
    return np.where(np.abs(margins) >= task.least_margin, np.sign(margins), 0.0)


def _reachable(task: Task) -> int:
    pairs = list(pairs_of(task, ("train", "test"), weak=True))
    everyone = [u for u in task.users.values() if u.split != "judge"]
    return int(np.count_nonzero(labels_of(task, margins_of(task, everyone, pairs))))


def _similarities(task: Task, store: Store) -> Array:
    """Cosine of the sentence embeddings of every two views to one question."""
    views = [[a.text for a in answers if not a.weak] for answers in task.answers_to.values()]
    vectors = sentence_embeddings(list(itertools.chain(*views)), store)
    parts = np.split(vectors, np.cumsum([len(texts) for texts in views])[:-1])
    return np.concatenate([cosines(part) for part in parts]).astype(float)


def longer_wins(task: Task) -> Estimate:
    """How often the longer of two views is the preferred one (test users, all method questions)."""
    pairs = [(a, b) for a, b in pairs_of(task, ("train", "test")) if len(a.text) != len(b.text)]
    margins = margins_of(task, task.users_of("test"), pairs)
    longer = np.array([len(a.text) > len(b.text) for a, b in pairs])
    return _share(task, pairs, margins, (margins > 0) == longer)


def population_predictor(task: Task) -> Estimate:
    """The majority of train users' labels on the very pair, asked about test users and questions."""
    pairs = list(pairs_of(task, ("test",)))
    train = margins_of(task, task.users_of("train"), pairs)
    majority = labels_of(task, train).sum(0) >= 0
    margins = margins_of(task, task.users_of("test"), pairs)
    return _share(task, pairs, margins, (margins > 0) == majority)


def ideal_observer(task: Task, shots: int, seed: int = 0) -> Estimate:
    """An observer that sees true loadings, the train users' traits as its prior, and N shots of a user.

    It weighs each train user's traits by how well they explain the shots (views only), and predicts
    the test user's labels on test questions from the weighted mean.
    """
    rng = np.random.default_rng(seed)
    prior, truth = task.users_of("train"), task.users_of("test")
    asked = list(pairs_of(task, ("test",)))
    support = list(pairs_of(task, ("train",)))
    by_question: dict[str, list[int]] = {}
    for n, (a, _) in enumerate(support):
        by_question.setdefault(a.question_id, []).append(n)
    prior_margins, true_margins = margins_of(task, prior, support), margins_of(task, truth, support)
    asked_prior, asked_true = margins_of(task, prior, asked), margins_of(task, truth, asked)
    labels, right = labels_of(task, true_margins), np.zeros(asked_true.shape, dtype=bool)
    for user in range(len(truth)):
        seen: list[int] = []
        for question in rng.permutation(list(by_question)):
            pair = int(rng.choice(by_question[question]))
            if labels[user, pair]:
                seen.append(pair)
            if len(seen) == shots:
                break
        expected = weighed(prior_margins[:, seen] * labels[user, seen], asked_prior)
        right[user] = (expected > 0) == (asked_true[user] > 0)
    return _share(task, asked, asked_true, right)


def weighed(agreement: Array, votes: Array) -> Array:
    """What is expected of a user about whom nothing is known but shots: the votes of known users, weighed.

    Args:
        agreement: each known user's margin on each shot, positive where it explains the label; 0 is a
            coin's. Shape (known users, shots).
        votes: each known user's margin on what is asked, shape (known users, pairs).
    """
    log_weight = -np.logaddexp(0, -CERTAINTY * agreement).sum(1)
    weight = np.exp(log_weight - log_weight.max())
    expected: Array = weight @ votes
    return expected


def _share(
    task: Task, pairs: Sequence[tuple[Answer, Answer]], margins: Array, right: NDArray[np.bool_]
) -> Estimate:
    """Share right among determined pairs, clustered by user."""
    users, columns = np.nonzero(labels_of(task, margins))
    questions = np.array([a.question_id for a, _ in pairs])
    return clustered_mean(right[users, columns], users, questions[columns])


def markdown(rows: Sequence[tuple[str, str]]) -> str:
    """The rows as a table."""
    return "\n".join(["| figure | value |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)])


def main(folders: Sequence[str]) -> int:
    """Measure each task, print its table and put it into its README.md."""
    for name in folders:
        folder = Path(name)
        block = markdown(figures(load_task(folder), Store()))
        print(block)
        readme = folder / "README.md"
        text = readme.read_text(encoding="utf-8")
        if BEGIN not in text or END not in text:
            raise UserError(f"{readme}: has no '{BEGIN}' and '{END}' to put the figures between")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        write_atomic(readme, f"{before}{BEGIN}\n{block}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
