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

from mmgrid.merging.kernels.counting import tally
from mmgrid.merging.scratch import take
from mmgrid.merging.stages import Cut

Bits = NDArray[np.uint32]
TOP = 1 << 31  # magnitudes have 31 bits
_BINS = 1 << 21  # enough for the interval that a sample gives: one count mostly is all
_HELD = 1 << 23  # elements of a search's interval that are remembered, to tell at which run the cut goes through
_GUESSES = 16  # thresholds whose equals are counted by run at once, where there are too many elements to remember


class Search:
    """The search for one cut of one source: it lies among the magnitudes whose bits are in [low, high].

    Args:
        rank: how many elements lie above the cut.
        guesses: values in the interval that many elements have: these are counted by run at once.
    """

    def __init__(self, rank: int, low: int = 0, high: int = TOP - 1, guesses: tuple[int, ...] = ()) -> None:
        self.rank, self.low, self.high, self.guesses = rank, low, high, guesses
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
        inside = ordered[np.searchsorted(ordered, low) : np.searchsorted(ordered, high, side="right")]
        if len(inside) * size <= n * _HELD / 2:  # all of them can be remembered
            return cls(rank, low, high)
        values, counts = np.unique(inside, return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")[:_GUESSES]]
        return cls(rank, low, high, tuple(frequent.tolist()))

    def _reset(self) -> None:
        self.beyond = 0  # elements above the interval
        self.counts = np.zeros(_BINS, np.int64)
        self._waiting: list[Bits] = []  # bins of elements that are not yet counted
        self._n_waiting = 0
        self._held: dict[int, Bits] | None = {}  # number of the run → bins of its elements in the interval
        self._n_held = 0
        self._equal: dict[int, int] = {}  # number of the run → its elements that equal the threshold, if that is known
        self._guessed: dict[int, dict[int, int]] = {guess: {} for guess in self.guesses}

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
        for guess, by_run in self._guessed.items():
            by_run[number] = int(np.count_nonzero(inside == np.uint32(guess - self.low)))
        with self._adding:
            self.beyond += beyond
            self._n_held += len(inside)
            if self._n_held > _HELD:
                self._held = None
            done = tally(inside, self._shift, self.counts)
            if self._held is not None or not done:
                inside = inside >> np.uint32(self._shift)
            if self._held is not None:
                self._held[number] = inside
            if not done:
                self._waiting.append(inside)
                self._n_waiting += len(inside)
                if self._n_waiting > _BINS:
                    self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self.counts += np.bincount(np.concatenate(self._waiting), minlength=_BINS)
        self._waiting, self._n_waiting = [], 0

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
        self._flush()
        if not self.beyond < self.rank <= self.beyond + int(self.counts.sum()):  # the sample misled
            above = self.rank <= self.beyond
            self.low, self.high = (self.high + 1, TOP - 1) if above else (0, self.low - 1)
            self.guesses = ()
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
                self.equals = {run: int(np.count_nonzero(bins == number)) for run, bins in self._held.items()}
            elif self.divides and low in self._guessed:
                self.equals = self._guessed[low]
        self.low, self.high, self.guesses = low, high, ()
        self._reset()

    def falling(self, n_runs: int) -> list[Cut]:
        """How the cut falls on each run, once that is settled."""
        assert self.threshold is not None
        if not self.divides:
            return [Cut(self.threshold, None)] * n_runs
        return falling(self.threshold, self.quota, [self.equals[number] for number in range(n_runs)])


def falling(threshold: int, quota: int, equals: list[int]) -> list[Cut]:
    """How a cut falls on runs with so many equals each: the first `quota` of all equals lie above it."""
    cuts = []
    for here in equals:
        above = min(max(quota, 0), here)
        cuts.append(Cut(threshold, None if above == here else above))
        quota -= here
    return cuts
