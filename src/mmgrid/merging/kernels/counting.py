"""Counts over arrays of bits by compiled loops, where they are loaded."""

from __future__ import annotations

import numpy as np

from mmgrid.merging.kernels.choice import CHOICE
from mmgrid.merging.kernels.tables import address_of
from mmgrid.merging.scratch import take

_RANKED_FROM = 1 << 15  # elements; the counts of fewer take longer to clear than a partition takes
_HALF = 1 << 16


def tally(distances: np.ndarray, shift: int, counts: np.ndarray) -> bool:
    """Add how often each number of `distances`, uint32, is there, shifted to the right, to `counts`, int64.

    Whether that was done; else nothing was.
    """
    loops = CHOICE.loops
    if loops is None:
        return False
    loops.tallied(address_of(distances), len(distances), shift, address_of(counts), len(counts))
    return True


def ranked(bits: np.ndarray, rank: int) -> tuple[int, int] | None:
    """The rank-th largest of `bits`, uint32 below 2³¹, and how many of its equals are among the first `rank`."""
    loops = CHOICE.loops
    if loops is None or len(bits) < _RANKED_FROM:
        return None
    equals = np.zeros(1, np.int64)
    threshold = loops.ranked(address_of(bits), len(bits), rank, address_of(take(_HALF, np.int64)), address_of(equals))
    return threshold, int(equals[0])
