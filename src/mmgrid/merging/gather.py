"""What must be known before anything can be merged: cuts between ranks of magnitude, and inner products.

A cut of n elements is found without sorting them. The bits of magnitudes are in their order, so counting how many
lie in each of some thousand intervals says in which one the cut is; the next count looks into that one only. A small
sample says where to look first, so that one count over all elements mostly is enough. What counts find is exact, and
does not depend on how the elements are cut into runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.chunks import Chunk
from mmgrid.merging.compute import Computation
from mmgrid.merging.floats import magnitudes
from mmgrid.merging.inner_products import block_products, exact_sum, in_blocks
from mmgrid.merging.names import tower_of
from mmgrid.merging.parallel import for_each
from mmgrid.merging.plan import Part
from mmgrid.merging.scratch import frame, take
from mmgrid.merging.stages import Cut, Stage

Piece = tuple[Chunk, Part]
# (tensor, first element of the run) → (source, stage) → the cuts as they fall on the run
Cuts = dict[tuple[str, int], dict[tuple[int, int], tuple[Cut, ...]]]
Bits = NDArray[np.uint32]
_TOP = 1 << 31  # magnitudes have 31 bits
_BINS = 1 << 21  # enough for the interval that a sample gives: one count mostly is all
SMALL_GROUP = 1 << 22  # elements of a group that are held in memory instead of being counted run by run
_SAMPLE = 64  # one element in so many …
_MOST_SAMPLED = 1 << 21  # … but no more than this, however large the model
_HELD = 1 << 23  # elements of a search's interval that are remembered, to tell at which run the cut goes through


def gather_cuts(computation: Computation, pieces: Sequence[Piece], workers: int) -> Cuts:
    """The cuts of every stage that wants any, on every run."""
    cuts: Cuts = {(chunk.tensor, chunk.start): {} for chunk, _ in pieces}
    programs = computation.job.programs
    # One threshold for all that is trimmed alike: rules that give a tower another λ or other weights divide no group.
    alike = [
        next(n for n, first in enumerate(programs) if first.stages == program.stages and first.base is program.base)
        for program in programs
    ]
    by_program: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_program.setdefault(alike[computation.job.number_of(piece[0].tensor)], []).append(piece)
    for number, own in sorted(by_program.items()):
        for position, stages in enumerate(programs[number].steps):
            if not stages[0].ranks(1):
                continue
            groups = list(_groups(stages[0], own).values())

            def read(piece: Piece, position: int = position) -> list[Bits]:
                """The bits of the magnitudes that the stage will see, for each source."""
                chunk = piece[0]
                vectors, _ = computation.vectors(*piece, cuts[chunk.tensor, chunk.start], position, check=False)
                return [magnitudes(values) for values in vectors]

            by_rows = any(earlier[0].unit == "row" for earlier in programs[number].steps[:position])

            def row(tensor: str, by_rows: bool = by_rows) -> int:
                shape = computation.plan.merged[tensor].shape
                return shape[-1] if by_rows and shape else 1

            small = [group for group in groups if _size(group) <= SMALL_GROUP]
            large = [group for group in groups if _size(group) > SMALL_GROUP]
            found: list[tuple[Chunk, int, tuple[Cut, ...]]] = []
            for_each(small, lambda group: found.extend(_in_memory(group, stages, read)), workers)  # noqa: B023
            for group in large:
                found.extend(_by_counting(group, stages, read, row, workers))
            for chunk, source, falling in found:
                cuts[chunk.tensor, chunk.start][source, position] = falling
    return cuts


def gather_grams(computation: Computation, pieces: Sequence[Piece], workers: int) -> dict[str, np.ndarray]:
    """Inner products float64 [n, n] of each tensor's sources, for programs whose method wants them."""
    wanted = [
        piece
        for piece in pieces
        if (method := computation.job.program(piece[0].tensor).method).takes_gram and method.needs == "tensor"
    ]
    partial: dict[Chunk, np.ndarray] = {}

    def work(piece: Piece) -> None:
        with frame():
            vectors, _ = computation.vectors(*piece, {})
            partial[piece[0]] = block_products(in_blocks(vectors))

    for_each(wanted, work, workers)
    by_tensor: dict[str, list[np.ndarray]] = {}
    for chunk, _ in wanted:
        by_tensor.setdefault(chunk.tensor, []).append(partial[chunk])
    return {name: exact_sum(blocks) for name, blocks in by_tensor.items()}


def _groups(stage: Stage, pieces: Iterable[Piece]) -> dict[str, list[Piece]]:
    """Pieces by what one threshold is for."""
    groups: dict[str, list[Piece]] = {}
    for chunk, part in pieces:
        key = {"model": "", "tower": tower_of(chunk.tensor), "tensor": chunk.tensor}[stage.scope]
        groups.setdefault(key, []).append((chunk, part))
    return groups


def _size(group: Sequence[Piece]) -> int:
    return sum(chunk.stop - chunk.start for chunk, _ in group)


def _in_memory(
    group: Sequence[Piece], stages: Sequence[Stage], read: Callable[[Piece], list[Bits]]
) -> list[tuple[Chunk, int, tuple[Cut, ...]]]:
    """The cuts of a group whose magnitudes are held all at once; `stages` is the stage of each source."""
    size = _size(group)
    ends = np.cumsum([chunk.stop - chunk.start for chunk, _ in group]).tolist()
    found: list[tuple[Chunk, int, tuple[Cut, ...]]] = []
    with frame():
        sources: list[Bits] = []
        for piece, end in zip(group, ends, strict=True):
            with frame():
                runs = read(piece)
                if not sources:
                    sources = [np.empty(size, np.uint32) for _ in runs]  # they outlive this frame
                for bits, run in zip(sources, runs, strict=True):
                    bits[end - len(run) : end] = run
        for source, bits in enumerate(sources):
            runs = np.split(bits, ends[:-1])
            falling = [_falling(runs, *_cut_of(bits, rank)) for rank in stages[source].ranks(size)]
            for (chunk, _), *cuts in zip(group, *falling, strict=True):
                found.append((chunk, source, tuple(cuts)))
    return found


def _cut_of(bits: Bits, rank: int) -> tuple[int, int]:
    """The bits of the rank-th largest, and how many elements that equal it lie above the cut."""
    n = len(bits)
    if rank <= 0:
        return _TOP, 0
    ordered = take(n, np.uint32)
    ordered[:] = bits
    ordered.partition(n - rank)
    threshold = int(ordered[n - rank])
    return threshold, rank - int(np.count_nonzero(ordered[n - rank :] > np.uint32(threshold)))


def _falling(runs: Sequence[Bits], threshold: int, quota: int) -> list[Cut]:
    """How a cut falls on each run: the first `quota` of all elements that equal the threshold lie above it."""
    cuts = []
    for run in runs:
        here = int(np.count_nonzero(run == np.uint32(threshold)))
        cuts.append(_cut_here(threshold, quota, here))
        quota -= here
    return cuts


def _cut_here(threshold: int, quota: int, here: int) -> Cut:
    above = min(max(quota, 0), here)
    return Cut(threshold, None if above == here else above)


class _Search:
    """The search for one cut of one source: it lies among the magnitudes whose bits are in [low, high]."""

    def __init__(self, rank: int, low: int = 0, high: int = _TOP - 1, guess: int | None = None) -> None:
        self.rank, self.low, self.high = rank, low, high
        self.guess = guess  # a threshold that many elements equal: these are counted at once
        self.threshold: int | None = None
        self.quota = 0  # how many of those that equal the threshold lie above the cut
        self.divides = False  # whether others that equal it lie below
        self.equals: dict[int, int] = {}  # number of the run → its elements that equal the threshold, if it divides
        self._adding = threading.Lock()
        self._reset()
        if rank <= 0:
            self.threshold = _TOP

    def _reset(self) -> None:
        self.beyond = 0  # elements above the interval
        self.counts = np.zeros(_BINS, np.int64)
        self._waiting: list[Bits] = []  # bins of elements that are not yet counted
        self._n_waiting = 0
        self._held: dict[int, Bits] | None = {}  # number of the run → bins of its elements in the interval
        self._n_held = 0
        self._guessed: dict[int, int] = {}

    def count(self, number: int, bits: Bits) -> None:
        """Count how many of run `number` lie above the interval, and how many in each bin of it."""
        chosen = take(len(bits), np.bool_)
        if self.guess is not None:
            self._guessed[number] = int(np.count_nonzero(np.equal(bits, np.uint32(self.guess), out=chosen)))
        if self.threshold is not None:  # it is known, and only how many equal it in each run is not
            return
        beyond = int(np.count_nonzero(np.greater(bits, np.uint32(self.high), out=chosen)))
        place = np.subtract(bits, np.uint32(self.low), out=take(len(bits), np.uint32))  # what lies below wraps around
        inside = place[np.less_equal(place, np.uint32(self.high - self.low), out=chosen)] >> np.uint32(self._shift)
        with self._adding:
            self.beyond += beyond
            self._waiting.append(inside)
            self._n_waiting += len(inside)
            self._n_held += len(inside)
            if self._n_waiting > _BINS:
                self._flush()
            if self._n_held > _HELD:
                self._held = None
            if self._held is not None:
                self._held[number] = inside

    def _flush(self) -> None:
        self.counts += np.bincount(np.concatenate([*self._waiting, np.zeros(0, np.uint32)]), minlength=_BINS)
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
            self.equals = self._guessed
            return
        self._flush()
        if not self.beyond < self.rank <= self.beyond + int(self.counts.sum()):  # the sample misled
            above = self.rank <= self.beyond
            self.low, self.high = (self.high + 1, _TOP - 1) if above else (0, self.low - 1)
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
            elif self.divides and self.guess == low:
                self.equals = self._guessed
        self.low, self.high, self.guess = low, high, low
        self._reset()


def _by_counting(
    group: Sequence[Piece],
    stages: Sequence[Stage],
    read: Callable[[Piece], list[Bits]],
    row: Callable[[str], int],
    workers: int,
) -> list[tuple[Chunk, int, tuple[Cut, ...]]]:
    size = _size(group)
    sample = _sample(group, read, row, workers)
    searches = [
        [_search(rank, size, bits) for rank in stage.ranks(size)] for stage, bits in zip(stages, sample, strict=True)
    ]
    numbered = list(enumerate(group))
    every = [search for wanted in searches for search in wanted]
    while open_searches := [search for search in every if not search.settled]:
        for_each(numbered, lambda piece: _count(piece, read, searches), workers)
        for search in open_searches:
            search.narrow()
    found = []
    for source, wanted in enumerate(searches):
        falling = [_falling_of(search, len(group)) for search in wanted]
        for (chunk, _), *cuts in zip(group, *falling, strict=True):
            found.append((chunk, source, tuple(cuts)))
    return found


def _falling_of(search: _Search, n_runs: int) -> list[Cut]:
    assert search.threshold is not None
    if not search.divides:
        return [Cut(search.threshold, None)] * n_runs
    cuts, quota = [], search.quota
    for number in range(n_runs):
        cuts.append(_cut_here(search.threshold, quota, search.equals[number]))
        quota -= search.equals[number]
    return cuts


def _count(
    numbered: tuple[int, Piece], read: Callable[[Piece], list[Bits]], searches: Sequence[Sequence[_Search]]
) -> None:
    """Count one run for all searches that are open."""
    number, piece = numbered
    with frame():
        for bits, wanted in zip(read(piece), searches, strict=True):
            for search in wanted:
                if not search.settled:
                    search.count(number, bits)


def _sample(
    group: Sequence[Piece], read: Callable[[Piece], list[Bits]], row: Callable[[str], int], workers: int
) -> list[Bits]:
    """Some of the group's magnitudes, by source: the beginning of every run, in whole rows of `row(tensor)`."""
    taken: dict[int, list[Bits]] = {}
    every = max(_SAMPLE, _size(group) // _MOST_SAMPLED)

    def take(numbered: tuple[int, Piece]) -> None:
        number, (chunk, part) = numbered
        whole = row(chunk.tensor)
        share = max((chunk.stop - chunk.start) // every // whole, 1) * whole
        taken[number] = read((Chunk(chunk.tensor, chunk.start, min(chunk.start + share, chunk.stop)), part))

    for_each(list(enumerate(group)), take, workers)
    return [np.concatenate([taken[number][source] for number in sorted(taken)]) for source in range(len(taken[0]))]


def _search(rank: int, size: int, sample: Bits) -> _Search:
    """A search that begins where the sample has the rank, with room for chance."""
    n = len(sample)
    ordered = np.sort(sample)[::-1]
    place, margin = rank / size * n, 0.002 * n + 64
    high = int(ordered[int(place - margin)]) if place - margin >= 0 else _TOP - 1
    low = int(ordered[int(place + margin)]) if place + margin < n else 0
    guess = int(ordered[min(int(place), n - 1)])
    is_frequent = np.count_nonzero(ordered == np.uint32(guess)) > n * _HELD / 2 / size
    return _Search(rank, low, high, guess if is_frequent else None)
