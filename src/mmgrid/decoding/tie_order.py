"""Breaks ties between equal scores: at random, but for each user the same every time.

Row numbers would favour items that happen to stand first. A hash of the user and the item depends on neither the
batch nor the other items, and needs no generator for each user. Both hashes here are SplitMix64's finaliser, applied
twice (Steele, Lea and Flood, OOPSLA 2014). They differ in their bits: `tie_keys` orders what `text` grounds, and
`random_keys` what the beam search returns, and stored ranks rest on both.
"""

import numpy as np
import torch
from torch import Tensor

from mmgrid.seeds import derive

_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def tie_keys(seed: int, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Of equal items the one with the smaller key comes first: uint64, in the shape that both broadcast to.

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


def random_keys(seeds: Tensor, items: Tensor) -> Tensor:
    """Of equal items the one with the smaller key comes first: int64, 0 or above, for `seeds` and `items` broadcast."""
    keys = _mixed_tensor(_mixed_tensor(seeds) ^ (items + 1) * _signed(_STEP))
    return keys & torch.iinfo(torch.int64).max >> 1


def _mixed_tensor(numbers: Tensor) -> Tensor:
    """The finaliser behind one step of the generator, modulo 2⁶⁴."""
    numbers = numbers + _signed(_STEP)
    numbers = (numbers ^ _shifted(numbers, 30)) * _signed(_FIRST)
    numbers = (numbers ^ _shifted(numbers, 27)) * _signed(_SECOND)
    return numbers ^ _shifted(numbers, 31)


def _signed(word: int) -> int:
    """An unsigned 64-bit number as torch's int64 holds it."""
    return word - 2**64


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """A logical shift to the right: torch's own copies the sign."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)
