"""Low-rank updates of tensors, s B A, by factors in an adapter's file: added run by run, in float64, rounded once.

Experts whose weights are one tensor share one pair of factors: A [experts · r, in], in which each expert has r rows beside each
other, and B [out, r · experts], in which its r columns lie `experts` apart, as PEFT stores them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.models.source import Source

_BLOCK_ELEMENTS = 1 << 14  # products are computed for whole blocks, so that no bit depends on the length of the runs
_CACHED = 16  # pairs of factors that are kept in memory …
_CACHED_ELEMENTS = 1 << 24  # … or those with so many numbers, 128 MiB


@dataclass(frozen=True)
class LowRankUpdate:
    """The update of a tensor, s B A or its transpose.

    Attributes:
        down: the name of A in the adapter's file.
        up: that of B.
        scale: s.
        transposed: whether the tensor is [in, out].
        experts: the number of experts whose factors A and B are.
        only: the expert whose matrix the tensor is; None for a tensor [experts, ·, ·] of all.
        first_row: the row of the product that the tensor begins with, where it is a part of what the factors are for.
    """

    down: str
    up: str
    scale: float
    transposed: bool
    experts: int = 1
    only: int | None = 0
    first_row: int = 0


class Factors:
    """The factors in an adapter's file, of which the last ones are kept. Threads may share it."""

    def __init__(self, adapter: Source) -> None:
        self._adapter = adapter
        self._kept: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        self._holding = threading.Lock()

    def add(self, update: LowRankUpdate, shape: tuple[int, ...], start: int, values: np.ndarray) -> None:
        """Add an update to the elements from `start` on of a tensor of this shape; `values` is float32 [n]."""
        left, right = self._of(update)
        if update.only is not None:
            rows = slice(update.first_row, update.first_row + shape[0])
            _add_product(left[update.only, rows], right[update.only], start, values)
            return
        each, stop = shape[1] * shape[2], start + len(values)
        for expert in range(start // each, -(-stop // each)):
            begin = expert * each
            low, high = max(begin, start), min(begin + each, stop)
            _add_product(left[expert], right[expert], low - begin, values[low - start : high - start])

    def _of(self, update: LowRankUpdate) -> tuple[np.ndarray, np.ndarray]:
        """Float64 [experts, rows, r] and [experts, r, columns], whose products are the update; the first contain the scale."""
        key = (update.down, update.up)
        with self._holding:
            if key in self._kept:
                return self._kept[key]
        down, up = self._matrix(update.down), self._matrix(update.up)
        down = down.reshape(update.experts, -1, down.shape[1])
        up = up.reshape(up.shape[0], -1, update.experts).transpose(2, 0, 1)
        factors = (
            (update.scale * down.transpose(0, 2, 1), up.transpose(0, 2, 1))
            if update.transposed
            else (update.scale * up, down)
        )
        factors = (np.ascontiguousarray(factors[0]), np.ascontiguousarray(factors[1]))
        with self._holding:
            self._kept[key] = factors
            while len(self._kept) > 1 and (
                len(self._kept) > _CACHED
                or sum(one.size + other.size for one, other in self._kept.values()) > _CACHED_ELEMENTS
            ):
                del self._kept[next(iter(self._kept))]
        return factors

    def _matrix(self, name: str) -> np.ndarray:
        info = self._adapter.info(name)
        values = widen(self._adapter.read(name, 0, info.size), info.dtype)
        return values.reshape(info.shape).astype(np.float64)


def _add_product(left: np.ndarray, right: np.ndarray, start: int, values: np.ndarray) -> None:
    """Add the elements from `start` on of a product of two matrices."""
    row = right.shape[1]
    rows = max(_BLOCK_ELEMENTS // row, 1)
    stop = start + len(values)
    for first in range(start // row // rows * rows, -(-stop // row), rows):
        product = (left[first : first + rows] @ right).reshape(-1)
        begin = first * row
        low, high = max(begin, start), min(begin + len(product), stop)
        part = values[low - start : high - start]
        part[:] = part + product[low - begin : high - begin]
