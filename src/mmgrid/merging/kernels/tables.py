"""What compiled loops are told of a run: tables of numbers and addresses, and the arrays that these point to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.kernels.layout import ALL, COLUMNS, ELECTED, RUN, SEARCH, SPARE_WORDS, SUM, VARIANT, room_bytes
from mmgrid.merging.kernels.operations import Operation, window_of
from mmgrid.merging.methods.combination import Combination
from mmgrid.merging.methods.stages import Cut


def address_of(array: np.ndarray) -> int:
    """Where an array's elements are; it must live as long as the address is used."""
    return array.__array_interface__["data"][0]


class RunTable:
    """A run of sources that have been read, and what is done to each of them.

    Args:
        sources: the sources' elements, uint16 (bfloat16) or float32, contiguous; behind them the base's, if there is
            one.
        on_deltas: whether there is.
        place: number of the first element in its tensor.
        steps: for each source, operations and the cuts that fall on the run, stage by stage.
        has_stages: whether there are stages, be it without operations.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray],
        on_deltas: bool,
        place: int,
        steps: Sequence[Sequence[tuple[Operation, Sequence[Cut]]]],
        has_stages: bool,
    ) -> None:
        n = len(sources) - on_deltas
        every = [step for own in steps for step in own]
        k = len(every)
        # One array for all of them: the table, then addresses, types, bounds, kinds, numbers, equals, factors.
        self._words = words = np.zeros(RUN + 3 * (n + 1) + k * (1 + COLUMNS + 2) + (k + 1) // 2, np.int64)
        self._alive = list(sources)
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
            for row, (operation, cuts) in enumerate(every):
                own_numbers[row] = operation.numbers
                if operation.cuts:
                    bits, left[row] = window_of(cuts)
                    own_numbers[row, :2] = bits
        places = [at, at + n + 1, at + 2 * n + 2, kinds, numbers, factors, equals]
        words[:RUN] = [
            len(sources[0]), place, n, k, on_deltas, has_stages, *(start + 8 * number for number in places)
        ]  # fmt: skip
        self.room = take(room_bytes(n), np.uint8)


class VariantTable:
    """The results of a run.

    Args:
        combinations: for each result what it is of the vectors, and its scale; None for the base as it is.
        targets: arrays that get them, uint16 (bfloat16) or float32.
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
                with np.errstate(over="ignore"):  # an infinite weight gives results that do not fit
                    own[:n] = what.weights
                    own[n : 2 * n] = 1.0 if what.votes is None else what.votes
                    own[2 * n :] = 1.0 if what.divisor is None else what.divisor, scale
                row[:3] = SUM if what.votes is None else ELECTED, values, values + 8 * n
                row[3:7] = what.divisor is not None, scale != 1.0, what.by_weight, what.normalise
            values += own.nbytes
        self._alive = targets

    @property
    def sizes(self) -> list[float]:
        """The largest magnitude of each result before it was rounded."""
        return self.rows[:, 9].astype(np.uint32).view(np.float32).tolist()


class SearchTable:
    """Searches for cuts in a run of `size` elements: (source, lowest bits, highest bits) each."""

    def __init__(self, searches: Sequence[tuple[int, int, int]], size: int) -> None:
        self.rows = np.zeros((len(searches), SEARCH), np.int64)
        each = size + SPARE_WORDS
        self.inside = take(len(searches) * each, np.uint32).reshape(len(searches), each)
        self.rows[:, :3] = searches
        self.rows[:, 3] = address_of(self.inside) + 4 * each * np.arange(len(searches))
        self.address = address_of(self.rows)

    def found(self, number: int) -> tuple[int, np.ndarray]:
        """How many elements lie above a search's interval, and for each of those in it, how far above its lowest."""
        return int(self.rows[number, 4]), self.inside[number, : self.rows[number, 5]]
