"""Text vectors from an embedding model, through sentence-transformers (an optional extra)."""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]


def sentence_vectors(
    model: str | Path,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    most_tokens: int | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    prompt: str = "",
    one_copy: bool = False,
) -> np.ndarray:
    """float32 [texts, width]: the model's vector of each text, normalised if the model does so; zeros for an empty text.

    Args:
        model: a folder, or the id of one on the hub, such as `Qwen/Qwen3-Embedding-0.6B`.
        revision: branch, tag or commit of a model on the hub.
        most_tokens: maximum tokens per text, the rest is cut off; None: the model's own limit, which always holds.
        dtype: of the weights, "float32" or "bfloat16"; vectors are always float32.
        prompt: stands before each text; its tokens do not count.
        one_copy: no two processes of this user on this machine hold the model at once: it waits until the others are
            done, and frees the model at the end. Otherwise the model is kept for the next call.

    Raises:
        ImportError: sentence-transformers is not installed.
        ValueError: the model returned NaN or infinity for a text.
    """
    with _opened(str(model), revision, dtype, one_copy) as (encoder, limit):
        if most_tokens is not None and prompt:
            most_tokens += len(encoder.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        encoder.max_seq_length = min((one for one in (limit, most_tokens) if one is not None), default=None)
        return _encoded(encoder, str(model), texts, batch_size, prompt)


def _encoded(
    encoder: SentenceTransformer, model: str, texts: Sequence[str], batch_size: int, prompt: str
) -> np.ndarray:
    filled = np.array([bool(text.strip()) for text in texts], np.bool_)
    given = [text for text, is_filled in zip(texts, filled, strict=True) if is_filled]
    probe = given or ["a"]  # some models fail without tokens; any text tells the width
    options: dict[str, Any] = {"prompt": prompt} if prompt else {}
    encoded = encoder.encode(probe, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True, **options)
    vectors = np.zeros((len(texts), encoded.shape[1]), np.float32)
    vectors[filled] = encoded[: len(given)]
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{model}: NaN or infinity in the vectors of {bad.size} of {len(texts)} texts, first {texts[bad[0]]!r:.80}: "
            "use another model or precision"
        )
    return vectors


@contextmanager
def _opened(model: str, revision: str | None, dtype: str, one_copy: bool) -> Iterator[tuple[Any, int | None]]:
    """The model, and its own limit of tokens per text."""
    if not one_copy:
        yield _open(model, revision, dtype)
        return
    name = hashlib.sha256(repr((_user(), model, revision)).encode()).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"mmgrid-{name}.lock"):
        _open.cache_clear()
        try:
            yield _open(model, revision, dtype)
        finally:
            _open.cache_clear()
            _give_back_memory()


def _user() -> int:
    """The user's number; one of a container has often no name. Windows has neither, and a temporary folder for each."""
    return os.getuid() if hasattr(os, "getuid") else 0


def _give_back_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@lru_cache(maxsize=1)  # a sweep opens the same model many times
def _open(model: str, revision: str | None, dtype: str) -> tuple[SentenceTransformer, int | None]:
    """The model, and its own limit of tokens per text."""
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"{model}: this model needs sentence-transformers, which is not installed: "
            "pip install mmgrid[sentence-transformers]"
        ) from error
    # Said in any case: otherwise weights have the type in which they are stored.
    options: Any = {"dtype": dtype}
    opened = SentenceTransformer(model, revision=revision, trust_remote_code=False, model_kwargs=options)
    return opened, opened.max_seq_length
