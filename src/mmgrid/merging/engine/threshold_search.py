"""Finds the threshold above which a given number of magnitudes lie, by counting instead of sorting.

The bits of magnitudes, read as whole numbers, have the order of the magnitudes. A histogram of them shows in which bin
the threshold lies, and the next histogram covers that bin alone. A small sample gives the first interval, so one
histogram over all elements is usually enough. If the elements are few, those in the interval are remembered instead.
The result is exact and does not depend on the length of the runs.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.kernels.counting import distinct, ranked
from mmgrid.merging.methods.stages import RunThreshold

Bits = NDArray[np.uint32]
TOP = 1 << 31  # magnitudes have 31 bits
_BINS = 1 << 21  # enough for the interval that a sample gives: one pass usually suffices
_HELD = 1 << 22  # counts by run and bin that are remembered, to find the run that the threshold divides


class Search(ABC):
    """The search for one threshold of one source, among the magnitudes whose bits are in [low, high].

    All runs are counted, then the search is narrowed, until it is settled.

    Args:
        rank: number of elements above the threshold.
    """

    def __init__(self, rank: int, low: int = 0, high: int = TOP - 1) -> None:
        self.rank, self.low, self.high = rank, low, high
        self.threshold: int | None = None
        self.quota = 0  # number of elements that equal the threshold and count as above it
        if rank <= 0:
            self.threshold = TOP

    @classmethod
    def from_sample(cls, rank: int, size: int, sample: Bits) -> Self:
        """A search among `size` elements, which starts around the sample's quantile with a margin for sampling error."""
        n = len(sample)
        ordered = np.sort(sample)
        place, margin = n - rank / size * n, 0.002 * n + 64
        high = int(ordered[int(place + margin)]) if place + margin < n else TOP - 1
        low = int(ordered[int(place - margin)]) if place - margin >= 0 else 0
        return cls(rank, low, high)

    @abstractmethod
    def add(self, number: int, beyond: int, inside: Bits) -> None:
        """Add the counts of run `number`.

        Args:
            beyond: number of its elements above the interval.
            inside: distances of its other elements, those in the interval, from the interval's lowest bits.
        """

    @property
    @abstractmethod
    def settled(self) -> bool:
        """Whether the threshold of each run is known."""

    @abstractmethod
    def narrow(self) -> None:
        """Settle, or continue in another interval, after a pass over all elements."""

    @abstractmethod
    def by_run(self, n_runs: int) -> list[RunThreshold]:
        """The threshold of each run, once the search is settled."""

    def _elsewhere(self, beyond: int) -> None:
        """Continue on the side of the interval where the threshold is; the sample was misleading."""
        self.low, self.high = (self.high + 1, TOP - 1) if self.rank <= beyond else (0, self.low - 1)


def inside(bits: Bits, low: int, high: int) -> tuple[int, Bits]:
    """The number of elements above an interval, and the distances of those inside it from its lowest bits."""
    chosen = take(len(bits), np.bool_)
    beyond = int(np.count_nonzero(np.greater(bits, np.uint32(high), out=chosen)))
    place = np.subtract(bits, np.uint32(low), out=take(len(bits), np.uint32))  # elements below wrap around
    return beyond, place[np.less_equal(place, np.uint32(high - low), out=chosen)]


class HoldingSearch(Search):
    """A search that remembers the elements in its interval: one pass usually settles it. For one thread."""

    def __init__(self, rank: int, low: int = 0, high: int = TOP - 1) -> None:
        super().__init__(rank, low, high)
        self._reset()
        self._equals: list[int] | None = None  # of each run, the elements that equal the threshold

    def _reset(self) -> None:
        self._beyond, self._runs = 0, list[Bits]()

    def add(self, number: int, beyond: int, inside: Bits) -> None:
        assert number == len(self._runs)
        self._beyond += beyond
        self._runs.append(inside.copy())

    @property
    def settled(self) -> bool:
        return self.threshold is not None

    def narrow(self) -> None:
        every = np.concatenate(self._runs)
        if not self._beyond < self.rank <= self._beyond + len(every):
            self._elsewhere(self._beyond)
        else:
            distance, self.quota = ranked_or_sorted(every, self.rank - self._beyond)
            self.threshold = self.low + distance
            self._equals = [int(np.count_nonzero(run == np.uint32(distance))) for run in self._runs]
        self._reset()

    def by_run(self, n_runs: int) -> list[RunThreshold]:
        assert self.threshold is not None
        if self._equals is None:
            return [RunThreshold(self.threshold, None)] * n_runs
        return thresholds_by_run(self.threshold, self.quota, self._equals)


class CountingSearch(Search):
    """A search that counts the elements in each bin of its interval, whatever their number. Threads may share it."""

    def __init__(self, rank: int, low: int = 0, high: int = TOP - 1) -> None:
        super().__init__(rank, low, high)
        self.divides = False  # whether other elements that equal the threshold count as below
        self.equals: dict[
            int, int
        ] = {}  # number of the run → its elements that equal the threshold, if it divides them
        self._adding = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.beyond = 0  # elements above the interval
        self.counts = np.zeros(_BINS, np.int64)
        # Number of the run → the bins of its elements in the interval, and the number of elements in each.
        self._held: dict[int, tuple[Bits, Bits]] | None = {}
        self._n_held = 0
        self._equal: dict[int, int] = {}  # number of the run → its elements that equal the threshold, once it is known

    def add(self, number: int, beyond: int, inside: Bits) -> None:
        if self.threshold is not None:  # only the number of equal elements in each run is still unknown
            self._equal[number] = len(inside)
            return
        bins, counts = _counted(inside, self._shift)
        with self._adding:
            self.beyond += beyond
            self.counts[bins] += counts
            self._n_held += len(bins)
            if self._n_held > _HELD:
                self._held = None
            if self._held is not None:
                self._held[number] = bins, counts

    @property
    def _shift(self) -> int:
        return max((self.high - self.low).bit_length() - (_BINS.bit_length() - 1), 0)

    @property
    def settled(self) -> bool:
        return self.threshold is not None and (not self.divides or bool(self.equals))

    def narrow(self) -> None:
        if self.threshold is not None:
            self.equals = self._equal
            return
        if not self.beyond < self.rank <= self.beyond + int(self.counts.sum()):
            self._elsewhere(self.beyond)
            self._reset()
            return
        upward = np.cumsum(self.counts[::-1])  # number of elements in the topmost bins
        place = int(np.searchsorted(upward, self.rank - self.beyond))
        number, in_bin = _BINS - 1 - place, int(self.counts[_BINS - 1 - place])
        above = self.beyond + int(upward[place]) - in_bin
        low = self.low + (number << self._shift)
        high = min(low + (1 << self._shift) - 1, self.high)
        if low == high:
            self.threshold, self.quota = low, self.rank - above
            self.divides = self.quota < in_bin
            if self.divides and self._held is not None:
                self.equals = {run: int(counts[bins == number].sum()) for run, (bins, counts) in self._held.items()}
        self.low, self.high = low, high
        self._reset()

    def by_run(self, n_runs: int) -> list[RunThreshold]:
        assert self.threshold is not None
        if not self.divides:
            return [RunThreshold(self.threshold, None)] * n_runs
        return thresholds_by_run(self.threshold, self.quota, [self.equals[number] for number in range(n_runs)])


def _counted(inside: Bits, shift: int) -> tuple[Bits, Bits]:
    """The bins that are not empty, and the number of elements in each; fine-tuning leaves few different values."""
    done = distinct(inside, shift)
    if done is not None:
        return done
    bins, counts = np.unique(inside >> np.uint32(shift), return_counts=True)
    return bins, counts.astype(np.uint32)


def ranked_or_sorted(bits: Bits, rank: int) -> tuple[int, int]:
    """The rank-th largest of `bits`, with rank at least 1, and how many of the `rank` largest are equal to it."""
    if (done := ranked(bits, rank)) is not None:
        return done
    ordered = np.partition(bits, len(bits) - rank)
    threshold = int(ordered[len(bits) - rank])
    return threshold, rank - int(np.count_nonzero(ordered[len(bits) - rank :] > np.uint32(threshold)))


def thresholds_by_run(threshold: int, quota: int, equals: list[int]) -> list[RunThreshold]:
    """The threshold of each run.

    Args:
        threshold: bits of the threshold.
        quota: number of elements that equal it and count as above it: the first ones, in the order of the runs.
        equals: for each run, the number of its elements that equal it.
    """
    thresholds = []
    for here in equals:
        above = min(max(quota, 0), here)
        thresholds.append(RunThreshold(threshold, None if above == here else above))
        quota -= here
    return thresholds
