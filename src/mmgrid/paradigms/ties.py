"""In what order items stand that a model cannot tell apart: at random, but for each user the same every time.

Row numbers would favour items that happen to stand first.  A hash of the user's row and the item's row depends on
neither the batch nor the company, and needs no generator for each user.
"""

from __future__ import annotations

import numpy as np

from mmgrid.seeds import derive

_STEP = np.uint64(0x9E3779B97F4A7C15)


def tie_keys(seed: int, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Of equal items the one with the smaller key comes first: uint64, in the shape that both broadcast to.

    Args:
        users: rows of the corpus (`Histories.users`), not positions in a batch.
        items: item rows.

    A counter-based hash: SplitMix64's finaliser, twice (Steele, Lea and Flood, OOPSLA 2014).
    """
    users, items = np.asarray(users).astype(np.uint64), np.asarray(items).astype(np.uint64)
    start = np.full(users.shape, derive(seed, "ties"), np.uint64)
    return _mixed(_mixed(start + users * _STEP) + items * _STEP)


def _mixed(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
