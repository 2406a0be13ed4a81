"""Predictors that know nothing of the user: what a preference accuracy must beat to be personal.

On real people a model of the whole population is a strong baseline, and longer answers win often.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fspo_bench.data.tasks import Preference, Task

EPISODES, QUERIES = 400, 12  # training pairs it learns from: the methods' own distribution


def longest(pairs: Sequence[Preference]) -> list[float]:
    """1 where the preferred answer is the longer one, a half for equal lengths."""
    return [
        0.5 if len(p.chosen) == len(p.rejected) else float(len(p.chosen) > len(p.rejected)) for p in pairs
    ]


def surface_model(task: Task, pairs: Sequence[Preference]) -> list[float]:
    """1 where a logistic model of surface features, fitted on train users, ranks the pair right."""
    from sklearn.linear_model import LogisticRegression

    learned = [
        p
        for e in task.train_episodes(1, QUERIES, EPISODES, seed=0)
        for p in e.queries
        if p.chosen != p.rejected
    ]
    x = np.stack([_features(p.chosen) - _features(p.rejected) for p in learned])
    scale = x.std(0) + 1e-9
    both = np.concatenate([x, -x]) / scale
    labels = np.repeat([1, 0], len(x))
    model = LogisticRegression(fit_intercept=False, max_iter=1000).fit(both, labels)
    held_out = np.stack([_features(p.chosen) - _features(p.rejected) for p in pairs]) / scale
    margin = model.decision_function(held_out)
    return [0.5 if m == 0 else float(m > 0) for m in margin]


def _features(text: str) -> NDArray[np.float64]:
    words = text.split()
    n = max(1, len(words))
    counts = [
        np.log1p(len(words)),
        sum(map(len, words)) / n,
        len(re.findall(r"[.!?](?=\s|$)", text)) / n,
        text.count(",") / n,
        text.count("\n") / n,
        len(re.findall(r"(?m)^\s*(?:[-*•]|\d+[.)])", text)),
        text.count("?"),
        len(re.findall(r"\b(?:I|my|me|I'm)\b", text)) / n,
        len(re.findall(r"\b[Yy]our?\b", text)) / n,
        len(re.findall(r"\d", text)) / n,
    ]
    return np.array(counts, dtype=float)
