"""Random orders that belong to a seed and an item, whatever the batch: for items that nothing else tells apart."""

from __future__ import annotations

import torch
from torch import Tensor

# The constants of SplitMix64 (Steele, Lea and Flood 2014), as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def random_keys(seeds: Tensor, items: Tensor) -> Tensor:
    """Keys int64 from 0 up, by which to sort; a pure function of each pair of `seeds` and `items`, broadcast."""
    return _mixed(_mixed(seeds) ^ (items + 1) * _STEP) & torch.iinfo(torch.int64).max >> 1


def _mixed(numbers: Tensor) -> Tensor:
    """SplitMix64's finaliser, modulo 2⁶⁴."""
    numbers = numbers + _STEP
    numbers = (numbers ^ _shifted(numbers, 30)) * _FIRST
    numbers = (numbers ^ _shifted(numbers, 27)) * _SECOND
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """A logical shift to the right: torch's own fills up with the sign."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)
