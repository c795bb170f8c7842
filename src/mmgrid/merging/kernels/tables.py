"""The input of the native loops for a run: tables of numbers and addresses, and the arrays that these point to."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.kernels.layout import (
    ALL,
    COLUMNS,
    ELECTED,
    LINE,
    RUN,
    SEARCH,
    SPARE_WORDS,
    SUM,
    VARIANT,
    block_of,
    room_bytes,
)
from mmgrid.merging.kernels.operations import Operation, window_of
from mmgrid.merging.methods.combination import Combination
from mmgrid.merging.methods.stages import RunThreshold


def address_of(array: np.ndarray) -> int:
    """The address of an array's elements; the array must outlive every use of the address."""
    return array.__array_interface__["data"][0]


class RunTable:
    """A run of the sources, as read, with the operations on each of them.

    Args:
        sources: the elements of each source, uint16 (bfloat16) or float32, contiguous; then those of the base, if the
            method works on task vectors.
        on_deltas: whether the last of `sources` is a base, to be subtracted.
        place: index of the run's first element in its tensor.
        steps: for each source, the operations with their thresholds for this run, stage by stage.
        has_stages: whether there are stages, even if none of them has an operation.
        rows_at_once: number of rows that the loops rank side by side.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray],
        on_deltas: bool,
        place: int,
        steps: Sequence[Sequence[tuple[Operation, Sequence[RunThreshold]]]],
        has_stages: bool,
        rows_at_once: int,
    ) -> None:
        n = len(sources) - on_deltas
        every = [step for own in steps for step in own]
        k = len(every)
        row = math.lcm(*(operation.row for operation, _ in every))
        block = block_of(row, rows_at_once)
        # One array holds everything: the table, then addresses, types, bounds, kinds, numbers, equals, factors.
        self._words = words = np.zeros(RUN + 3 * (n + 1) + k * (1 + COLUMNS + 2) + (k + 1) // 2, np.int64)
        self._alive = (sources, steps)
        self.address = start = address_of(words)
        at = RUN
        words[at : at + len(sources)] = [address_of(source) for source in sources]
        words[at + n + 1 : at + n + 1 + len(sources)] = [source.itemsize == 2 for source in sources]
        bounds = [0, *itertools.accumulate(len(own) for own in steps)]
        words[at + 2 * n + 2 : at + 2 * n + 2 + len(bounds)] = bounds
        kinds = at + 3 * (n + 1)
        numbers, equals = kinds + k, kinds + k + k * COLUMNS
        factors = equals + 2 * k
        if k:
            words[kinds:numbers] = [operation.kind for operation, _ in every]
            own_numbers = words[numbers:equals].view(np.uint64).reshape(k, COLUMNS)
            left = words[equals:factors].view(np.uint64).reshape(k, 2)
            words[factors:].view(np.float32)[:k] = [operation.factor for operation, _ in every]
            left[:] = ALL
            for number, (operation, thresholds) in enumerate(every):
                own_numbers[number] = operation.numbers
                if operation.thresholds:
                    bits, left[number] = window_of(thresholds)
                    own_numbers[number, :2] = bits
        places = [at, at + n + 1, at + 2 * n + 2, kinds, numbers, factors, equals]
        words[:RUN] = [
            len(sources[0]), place, n, k, on_deltas, has_stages, block, row, *(start + 8 * at for at in places)
        ]  # fmt: skip
        room = take(room_bytes(n, block, row) + LINE, np.uint8)
        self.room = room[-address_of(room) % LINE :]


class VariantTable:
    """The results to compute for a run.

    Args:
        combinations: the combination of the vectors and the scale, for each result; None for the unchanged base.
        targets: output arrays, uint16 (bfloat16) or float32.
        n: number of sources.
    """

    def __init__(
        self, combinations: Sequence[tuple[Combination, float] | None], targets: Sequence[np.ndarray], n: int
    ) -> None:
        self.rows = np.zeros((len(combinations), VARIANT), np.int64)
        self._values = np.zeros((len(combinations), 2 * n + 2), np.float32)
        self.address = address_of(self.rows)
        values = address_of(self._values)
        for row, own, combination, target in zip(self.rows, self._values, combinations, targets, strict=True):
            row[7:9] = address_of(target), target.itemsize == 2
            if combination is not None:
                what, scale = combination
                with np.errstate(over="ignore"):  # an infinite weight gives infinite results, which are refused later
                    own[:n] = what.weights
                    own[n : 2 * n] = 1.0 if what.votes is None else what.votes
                    own[2 * n :] = 1.0 if what.divisor is None else what.divisor, scale
                row[:3] = SUM if what.votes is None else ELECTED, values, values + 8 * n
                row[3:7] = what.divisor is not None, scale != 1.0, what.by_weight, what.normalise
            values += own.nbytes
        self._alive = targets

    @property
    def sizes(self) -> list[float]:
        """The largest magnitude of each result before rounding."""
        return self.rows[:, 9].astype(np.uint32).view(np.float32).tolist()


class SearchTable:
    """Threshold searches in a run of `size` elements, each (source, lowest bits, highest bits)."""

    def __init__(self, searches: Sequence[tuple[int, int, int]], size: int) -> None:
        self.rows = np.zeros((len(searches), SEARCH), np.int64)
        each = size + SPARE_WORDS
        self.inside = take(len(searches) * each, np.uint32).reshape(len(searches), each)
        self.rows[:, :3] = searches
        self.rows[:, 3] = address_of(self.inside) + 4 * each * np.arange(len(searches))
        self.address = address_of(self.rows)

    def found(self, number: int) -> tuple[int, np.ndarray]:
        """The number of elements above a search's interval, and the distances to its lowest bits of those inside it."""
        return int(self.rows[number, 4]), self.inside[number, : self.rows[number, 5]]
