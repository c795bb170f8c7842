"""Breaks ties between equal scores at random, but reproducibly for each user.

Ordering by row would favour items with low row numbers. A hash of user and item depends neither on the batch nor on
the other items, and needs no generator per user. Both hashes apply SplitMix64's finaliser twice (Steele, Lea and Flood,
OOPSLA 2014) but give different bits. `tie_keys` orders grounded titles, `seeded_tie_keys` the results of the beam
search; stored ranks depend on both, so neither may change.
"""

import numpy as np
import torch
from torch import Tensor

from mmgrid.seeds import derive

_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def tie_keys(seed: int, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Sort keys of tied items, smallest first: uint64, in the broadcast shape of `users` and `items`.

    Args:
        users: rows of the corpus (`Histories.users`), not positions in a batch.
        items: item rows.
    """
    users, items = np.asarray(users).astype(np.uint64), np.asarray(items).astype(np.uint64)
    start = np.full(users.shape, derive(seed, "ties"), np.uint64)
    return _mixed(_mixed(start + users * np.uint64(_STEP)) + items * np.uint64(_STEP))


def _mixed(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(_FIRST)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(_SECOND)
    return word ^ (word >> np.uint64(31))


def seeded_tie_keys(seeds: Tensor, items: Tensor) -> Tensor:
    """Sort keys of tied items, smallest first: int64 ≥ 0, in the broadcast shape of `seeds` and `items`."""
    keys = _mixed_tensor(_mixed_tensor(seeds) ^ (items + 1) * _signed(_STEP))
    return keys & torch.iinfo(torch.int64).max >> 1


def _mixed_tensor(numbers: Tensor) -> Tensor:
    """One step of the generator and the finaliser, modulo 2⁶⁴."""
    numbers = numbers + _signed(_STEP)
    numbers = (numbers ^ _shifted(numbers, 30)) * _signed(_FIRST)
    numbers = (numbers ^ _shifted(numbers, 27)) * _signed(_SECOND)
    return numbers ^ _shifted(numbers, 31)


def _signed(word: int) -> int:
    """An unsigned 64-bit number ≥ 2⁶³ as the int64 with the same bits."""
    return word - 2**64


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """A logical right shift; torch's own shift is arithmetic."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)
