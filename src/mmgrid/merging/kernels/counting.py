"""Counting over arrays of bits with the native loops, if there are any."""

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.kernels.choice import loops
from mmgrid.merging.kernels.layout import SLOTS
from mmgrid.merging.kernels.tables import address_of

_RANKED_FROM = 1 << 15  # elements; for fewer, clearing the counts takes longer than a partition
_HALF = 1 << 16


def distinct(numbers: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct values of `numbers` (uint32 below 2³¹) shifted right by `shift`, and how often each occurs.

    None without native loops, or there are too many distinct values.
    """
    native = loops()
    if native is None:
        return None
    values, counts = take(SLOTS, np.uint32), take(SLOTS, np.uint32)
    found = native.distinct(address_of(numbers), len(numbers), shift, address_of(values), address_of(counts))
    return (values[:found].copy(), counts[:found].copy()) if found <= SLOTS // 2 else None


def ranked(bits: np.ndarray, rank: int) -> tuple[int, int] | None:
    """The rank-th largest of `bits` (uint32 below 2³¹), and how many of the `rank` largest are equal to it.

    None without native loops, or `bits` are too few to gain from them.
    """
    native = loops()
    if native is None or len(bits) < _RANKED_FROM:
        return None
    equals, room = np.zeros(1, np.int64), take(_HALF, np.int64)  # held by a name until the loop has returned
    threshold = native.ranked(address_of(bits), len(bits), rank, address_of(room), address_of(equals))
    return threshold, int(equals[0])
