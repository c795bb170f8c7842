"""Reproducible, nested samples of ids: a smaller sample is part of every larger one.

Ids are ordered by a keyed hash, so the relative order of two ids depends only on these ids, the seed and the salt, not
on the other ids or their order.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mmgrid.seeds import derive


def nested_order(ids: Iterable[str] | npt.NDArray[np.str_], seed: int, salt: str) -> npt.NDArray[np.int64]:
    """int64[n]: positions of the ids in sampling order; the first k are the sample of size k.

    Args:
        ids: n distinct ids.
        seed: the grid's seed.
        salt: the purpose, so that samples for different purposes are independent.
    """
    texts = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    key = derive(seed, "sample", salt).to_bytes(8, "little")
    blake2b = hashlib.blake2b
    digests = b"".join(blake2b(text.encode(), digest_size=8, key=key).digest() for text in texts)
    hashes = np.frombuffer(digests, "<u8")
    # 64-bit hashes may collide; ties are broken by the id.
    return np.lexsort((np.array(texts, np.str_), hashes)).astype(np.int64)


def nested_sample(
    ids: Iterable[str] | npt.NDArray[np.str_], size: int | None, seed: int, salt: str
) -> npt.NDArray[np.int64]:
    """int64[≤ size]: sorted positions of a sample of at most `size` ids; of all ids if `size` is None."""
    if size is not None and size < 1:
        raise ValueError(f"sample size {size}: expected at least 1, or None for all")
    texts = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if size is None or size >= len(texts):
        return np.arange(len(texts), dtype=np.int64)
    return np.sort(nested_order(texts, seed, salt)[:size])
