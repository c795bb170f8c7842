"""Finds the threshold above which a given number of magnitudes lie, by counting instead of sorting.

The bits of magnitudes, read as whole numbers, have the order of the magnitudes. A histogram of them shows in which bin
the threshold lies, and the next histogram covers that bin alone. A small sample gives the first interval, so one
histogram over all elements is usually enough. The result is exact and does not depend on the length of the runs.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.kernels.counting import distinct
from mmgrid.merging.methods.stages import RunThreshold

Bits = NDArray[np.uint32]
TOP = 1 << 31  # magnitudes have 31 bits
_BINS = 1 << 21  # enough for the interval that a sample gives: one pass usually suffices
_HELD = 1 << 22  # counts by run and bin that are remembered, to find the run that the threshold divides


class ThresholdSearch:
    """The search for one threshold of one source, among the magnitudes whose bits are in [low, high].

    Args:
        rank: number of elements above the threshold.
    """

    def __init__(self, rank: int, low: int = 0, high: int = TOP - 1) -> None:
        self.rank, self.low, self.high = rank, low, high
        self.threshold: int | None = None
        self.quota = 0  # number of elements that equal the threshold and count as above it
        self.divides = False  # whether other elements that equal it count as below
        self.equals: dict[
            int, int
        ] = {}  # number of the run → its elements that equal the threshold, if it divides them
        self._adding = threading.Lock()
        self._reset()
        if rank <= 0:
            self.threshold = TOP

    @classmethod
    def from_sample(cls, rank: int, size: int, sample: Bits) -> ThresholdSearch:
        """A search among `size` elements, which starts around the sample's quantile with a margin for sampling error."""
        n = len(sample)
        ordered = np.sort(sample)
        place, margin = n - rank / size * n, 0.002 * n + 64
        high = int(ordered[int(place + margin)]) if place + margin < n else TOP - 1
        low = int(ordered[int(place - margin)]) if place - margin >= 0 else 0
        return cls(rank, low, high)

    def _reset(self) -> None:
        self.beyond = 0  # elements above the interval
        self.counts = np.zeros(_BINS, np.int64)
        # Number of the run → the bins of its elements in the interval, and the number of elements in each.
        self._held: dict[int, tuple[Bits, Bits]] | None = {}
        self._n_held = 0
        self._equal: dict[int, int] = {}  # number of the run → its elements that equal the threshold, once it is known

    def count(self, number: int, bits: Bits) -> None:
        """Count the elements of run `number` above the interval and in each of its bins."""
        chosen = take(len(bits), np.bool_)
        beyond = int(np.count_nonzero(np.greater(bits, np.uint32(self.high), out=chosen)))
        place = np.subtract(
            bits, np.uint32(self.low), out=take(len(bits), np.uint32)
        )  # elements below the interval wrap around
        self.add(number, beyond, place[np.less_equal(place, np.uint32(self.high - self.low), out=chosen)])

    def add(self, number: int, beyond: int, inside: Bits) -> None:
        """Add the counts of run `number`.

        Args:
            beyond: number of its elements above the interval.
            inside: distances of its other elements, those in the interval, from the interval's lowest bits.
        """
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
        """Whether the threshold of each run is known."""
        return self.threshold is not None and (not self.divides or bool(self.equals))

    def narrow(self) -> None:
        """Continue in the bin that contains the threshold, after a pass over all elements."""
        if self.threshold is not None:
            self.equals = self._equal
            return
        if not self.beyond < self.rank <= self.beyond + int(self.counts.sum()):  # the sample was misleading
            above = self.rank <= self.beyond
            self.low, self.high = (self.high + 1, TOP - 1) if above else (0, self.low - 1)
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
        """The threshold of each run, once the search is settled."""
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
