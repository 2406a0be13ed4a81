"""Frozen embeddings of texts, from the store where known: what reward methods read instead of tokens.

The pooling is a part of a method's identity (last token for VPL, mean for GPO), so it is a part of
the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fspo_bench.errors import UserError
from fspo_bench.lm.models import model_dir
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.prompts import Context, PromptEncoder
from fspo_bench.progress import track
from fspo_bench.store import Store, digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

Array = NDArray[np.float32]
Text = tuple[str, str]  # prompt, answer
Pooling = Literal["mean", "last"]

SENTENCES = "minilm-l6"
VERSION = 2  # raise when an embedding can change
ROWS = 16  # texts in one forward pass
CHUNK = 256  # texts that are embedded, and kept, at a time


def sentence_embeddings(texts: Sequence[str], store: Store, embedder: str = SENTENCES) -> Array:
    """Unit vectors of whole texts, shape (texts, width): dot products are cosines.

    Args:
        texts: what to embed; an embedder cuts long ones (MiniLM after 256 tokens).
        store: where vectors are kept.
        embedder: the bundled MiniLM, or what sentence-transformers opens: an id of the Hub or a folder.

    Raises:
        UserError: the embedder cannot be opened.
    """
    model = None if embedder == SENTENCES else _sentence_model(embedder)
    name = SENTENCES if model is None else _weights_digest(model)
    keys = {text: digest(["sentence", VERSION, name, text]) for text in texts}
    known = {text: store.get(key) for text, key in keys.items()}
    missing = [text for text, vector in known.items() if vector is None]
    if missing:
        model = model or _sentence_model(SENTENCES)
        label = f"embedding {len(missing):,} texts"
        for some in track([missing[i : i + CHUNK] for i in range(0, len(missing), CHUNK)], label):
            vectors = model.encode(some, normalize_embeddings=True, show_progress_bar=False)
            for text, vector in zip(some, vectors, strict=True):
                known[text] = _kept(store, keys[text], vector)
    return np.array([known[text] for text in texts], dtype=np.float32)


def unit_vectors(texts: Sequence[str]) -> Array:
    """As `sentence_embeddings`, of texts that are met once: nothing is kept."""
    model = _sentence_model(SENTENCES)
    vectors: Array = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return vectors


@cache
def _sentence_model(name: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from transformers import logging

    logging.disable_progress_bar()
    if name == SENTENCES:
        return SentenceTransformer(str(model_dir(SENTENCES)), device="cpu")
    try:
        return SentenceTransformer(name.removeprefix("hf/"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"embedder '{name}' cannot be opened by sentence-transformers ({str(error).splitlines()[0]}); "
            f"give {SENTENCES}, an id of the Hugging Face Hub as BAAI/bge-m3, or a folder"
        ) from None


def _weights_digest(model: SentenceTransformer) -> str:
    """sha256 over what decides a vector: weights, pooling and after how many tokens a text is cut."""
    import torch

    sha = hashlib.sha256(f"{model} {model.max_seq_length}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def cosines(vectors: Array) -> Array:
    """Of every two of n unit vectors, shape (n (n - 1) / 2,)."""
    pairs: Array = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    return pairs


def hidden_states(
    policy: Policy, encoder: PromptEncoder, texts: Sequence[Text], pooling: Pooling, store: Store
) -> Array:
    """Last-layer states of the untouched policy over prompt and answer, shape (texts, width).

    Args:
        policy: whose untouched weights read.
        encoder: lays a prompt and its answer out as the policy saw them in its own training.
        texts: prompts with answers.
        pooling: `mean` over all tokens of prompt and answer, or the state of the `last` token.
        store: where they are kept.
    """
    start = encoder.prefix(Context())
    rows = {t: (*start, *encoder.question(t[0]), *encoder.answer(t[1])) for t in texts}
    keys = {t: digest(["hidden", VERSION, policy.fingerprint, pooling, ids]) for t, ids in rows.items()}
    known = {t: store.get(key) for t, key in keys.items()}
    missing = sorted((t for t, vector in known.items() if vector is None), key=lambda t: len(rows[t]))
    policy.state = ""
    for batch in track([missing[i : i + ROWS] for i in range(0, len(missing), ROWS)], "frozen embeddings"):
        states = _last_layer(policy, [rows[t] for t in batch], encoder.end)
        for t, state in zip(batch, states, strict=True):
            own = state[len(start) : len(rows[t])]  # the template's first states would drown a mean
            pooled = own.mean(0) if pooling == "mean" else own[-1]
            known[t] = _kept(store, keys[t], pooled.float().cpu().numpy())
    return np.array([known[t] for t in texts], dtype=np.float32)


def _kept(store: Store, key: str, vector: Array) -> list[float]:
    value = [round(float(x), 5) for x in vector]
    store.put(key, value)
    return value


def _last_layer(policy: Policy, rows: Sequence[tuple[int, ...]], pad: int) -> Tensor:
    """Padding stands on the right, where causal attention never looks back at it."""
    import torch

    from fspo_bench.lm.shared_context import causal_lm

    lm = causal_lm(policy.model)
    width = max(map(len, rows))
    device = lm.get_input_embeddings().weight.device
    ids = torch.tensor([row + (pad,) * (width - len(row)) for row in rows], device=device)
    with torch.no_grad():
        states: Tensor = lm.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    return states
