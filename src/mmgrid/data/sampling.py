"""Samples of ids that are the same everywhere and nested: a smaller one lies within every larger one.

Each id gets a keyed hash of its own, so its place relative to another id depends on the two of them, the seed
and the salt alone: not on who else is there, nor on the order in which they come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mmgrid.seeds import derive


def nested_order(ids: Iterable[str] | npt.NDArray[np.str_], seed: int, salt: str) -> npt.NDArray[np.int64]:
    """Positions of the ids in sampling order: int64[n].  The first k are the sample of size k.

    Args:
        ids: n distinct ids.
        seed: the grid's seed.
        salt: what is sampled, so that samples for different purposes are independent.
    """
    texts = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    key = derive(seed, "sample", salt).to_bytes(8, "little")
    blake2b = hashlib.blake2b
    digests = b"".join(blake2b(text.encode(), digest_size=8, key=key).digest() for text in texts)
    hashes = np.frombuffer(digests, "<u8")
    # 64 bits may collide: the id itself settles it.
    return np.lexsort((np.array(texts, np.str_), hashes)).astype(np.int64)


def nested_sample(
    ids: Iterable[str] | npt.NDArray[np.str_], size: int | None, seed: int, salt: str
) -> npt.NDArray[np.int64]:
    """Sorted positions of a sample of at most `size` ids (all of them if `size` is None): int64[<= size]."""
    if size is not None and size < 1:
        raise ValueError(f"sample size {size}: expected at least 1, or None for all")
    texts = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if size is None or size >= len(texts):
        return np.arange(len(texts), dtype=np.int64)
    return np.sort(nested_order(texts, seed, salt)[:size])
