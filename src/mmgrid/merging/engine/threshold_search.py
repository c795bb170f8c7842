"""The search for a cut of many elements: counted, not sorted.

The bits of magnitudes are in their order, so counting how many lie in each of some thousand intervals says in which
one the cut is; the next count looks into that one only. A small sample says where to look first, so that one count
over all elements mostly is enough. What counts find is exact, and does not depend on how the elements are cut into
runs.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.kernels.counting import distinct
from mmgrid.merging.methods.stages import Cut

Bits = NDArray[np.uint32]
TOP = 1 << 31  # magnitudes have 31 bits
_BINS = 1 << 21  # enough for the interval that a sample gives: one count mostly is all
_HELD = 1 << 22  # numbers of elements by run and bin that are remembered, to tell at which run the cut goes through


class Search:
    """The search for one cut of one source: it lies among the magnitudes whose bits are in [low, high].

    Args:
        rank: how many elements lie above the cut.
    """

    def __init__(self, rank: int, low: int = 0, high: int = TOP - 1) -> None:
        self.rank, self.low, self.high = rank, low, high
        self.threshold: int | None = None
        self.quota = 0  # how many of those that equal the threshold lie above the cut
        self.divides = False  # whether others that equal it lie below
        self.equals: dict[int, int] = {}  # number of the run → its elements that equal the threshold, if it divides
        self._adding = threading.Lock()
        self._reset()
        if rank <= 0:
            self.threshold = TOP

    @classmethod
    def from_sample(cls, rank: int, size: int, sample: Bits) -> Search:
        """A search among `size` elements that begins where a sample has the rank, with room for chance."""
        n = len(sample)
        ordered = np.sort(sample)
        place, margin = n - rank / size * n, 0.002 * n + 64
        high = int(ordered[int(place + margin)]) if place + margin < n else TOP - 1
        low = int(ordered[int(place - margin)]) if place - margin >= 0 else 0
        return cls(rank, low, high)

    def _reset(self) -> None:
        self.beyond = 0  # elements above the interval
        self.counts = np.zeros(_BINS, np.int64)
        # Number of the run → the bins that its elements in the interval are in, and how many are in each.
        self._held: dict[int, tuple[Bits, Bits]] | None = {}
        self._n_held = 0
        self._equal: dict[int, int] = {}  # number of the run → its elements that equal the threshold, if that is known

    def count(self, number: int, bits: Bits) -> None:
        """Count how many of run `number` lie above the interval, and how many in each bin of it."""
        chosen = take(len(bits), np.bool_)
        beyond = int(np.count_nonzero(np.greater(bits, np.uint32(self.high), out=chosen)))
        place = np.subtract(bits, np.uint32(self.low), out=take(len(bits), np.uint32))  # what lies below wraps around
        self.add(number, beyond, place[np.less_equal(place, np.uint32(self.high - self.low), out=chosen)])

    def add(self, number: int, beyond: int, inside: Bits) -> None:
        """Of run `number` so many elements lie above the interval, and those in it so far above its lowest bits."""
        if self.threshold is not None:  # it is known, and only how many equal it in each run is not
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
        """Whether all is known that tells how the cut falls on each run."""
        return self.threshold is not None and (not self.divides or bool(self.equals))

    def narrow(self) -> None:
        """Go on in the bin that holds the cut, after a pass over all elements."""
        if self.threshold is not None:
            self.equals = self._equal
            return
        if not self.beyond < self.rank <= self.beyond + int(self.counts.sum()):  # the sample misled
            above = self.rank <= self.beyond
            self.low, self.high = (self.high + 1, TOP - 1) if above else (0, self.low - 1)
            self._reset()
            return
        upward = np.cumsum(self.counts[::-1])  # elements in the topmost bins
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

    def falling(self, n_runs: int) -> list[Cut]:
        """How the cut falls on each run, once that is settled."""
        assert self.threshold is not None
        if not self.divides:
            return [Cut(self.threshold, None)] * n_runs
        return falling(self.threshold, self.quota, [self.equals[number] for number in range(n_runs)])


def _counted(inside: Bits, shift: int) -> tuple[Bits, Bits]:
    """The bins of elements, each once, and how many elements are in each; fine-tuning leaves few different values."""
    done = distinct(inside, shift)
    if done is not None:
        return done
    bins, counts = np.unique(inside >> np.uint32(shift), return_counts=True)
    return bins, counts.astype(np.uint32)


def falling(threshold: int, quota: int, equals: list[int]) -> list[Cut]:
    """How a cut falls on runs with so many equals each: the first `quota` of all equals lie above it."""
    cuts = []
    for here in equals:
        above = min(max(quota, 0), here)
        cuts.append(Cut(threshold, None if above == here else above))
        quota -= here
    return cuts
