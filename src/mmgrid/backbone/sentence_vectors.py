"""Text vectors from an embedding model, through sentence-transformers (an optional extra)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]


def sentence_vectors(
    model: str | Path,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    most_tokens: int | None = None,
    revision: str | None = None,
) -> np.ndarray:
    """float32 [texts, width]: the model's vector of each text, normalised if the model does so; zeros for an empty text.

    Args:
        model: a folder, or the id of one on the hub, such as `Qwen/Qwen3-Embedding-0.6B`.
        revision: branch, tag or commit of a model on the hub.
        most_tokens: maximum tokens per text, the rest is cut off; None: the model's own limit, which always holds.

    Raises:
        ImportError: sentence-transformers is not installed.
        ValueError: the model returned NaN or infinity for a text.
    """
    encoder, limit = _open(str(model), revision)
    encoder.max_seq_length = min((one for one in (limit, most_tokens) if one is not None), default=None)
    filled = np.array([bool(text.strip()) for text in texts], np.bool_)
    given = [text for text, is_filled in zip(texts, filled, strict=True) if is_filled]
    probe = given or ["a"]  # some models fail without tokens; any text tells the width
    encoded = encoder.encode(probe, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
    vectors = np.zeros((len(texts), encoded.shape[1]), np.float32)
    vectors[filled] = encoded[: len(given)]
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{model}: NaN or infinity in the vectors of {bad.size} of {len(texts)} texts, first {texts[bad[0]]!r:.80}: "
            "use another model or precision"
        )
    return vectors


@lru_cache(maxsize=1)  # a sweep opens the same model many times
def _open(model: str, revision: str | None) -> tuple[SentenceTransformer, int | None]:
    """The model, and its own limit of tokens per text."""
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"{model}: this model needs sentence-transformers, which is not installed: "
            "pip install mmgrid[sentence-transformers]"
        ) from error
    opened = SentenceTransformer(model, revision=revision, trust_remote_code=False)
    return opened, opened.max_seq_length
