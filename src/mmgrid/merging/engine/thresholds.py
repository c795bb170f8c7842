"""Finds the thresholds of stages that keep the largest magnitudes of a tensor, tower or model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import Chunk, row_of
from mmgrid.merging.arrays.floats import magnitudes
from mmgrid.merging.arrays.names import tower_of
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation
from mmgrid.merging.engine.compiled_runs import CompiledRuns
from mmgrid.merging.engine.threshold_search import Bits, CountingSearch, HoldingSearch, Search, inside
from mmgrid.merging.methods.stages import RunThreshold, Stage
from mmgrid.merging.plan.plan import PlannedChunk

# (tensor, first element of the run) → (number of the source, number of the stage) → the thresholds of the run
Thresholds = dict[tuple[str, int], dict[tuple[int, int], tuple[RunThreshold, ...]]]
SMALL_GROUP = 1 << 22  # elements of a group whose thresholds one thread finds, remembering magnitudes
_Found = tuple[Chunk, int, tuple[RunThreshold, ...]]  # run, source, thresholds
_SAMPLED_FROM = 1 << 14  # elements of a group; the thresholds of smaller ones are found without a sample
_SAMPLE = 64  # one element in 64 is sampled …
_MOST_SAMPLED = 1 << 21  # … but at most this number


@dataclass(frozen=True)
class _Magnitudes:
    """Reads the magnitudes that stage number `position` takes as input, run by run."""

    computation: Computation
    compiled: CompiledRuns
    thresholds: Thresholds
    position: int

    def of(self, piece: PlannedChunk) -> list[Bits]:
        """The bits of the magnitudes of a run, for each source."""
        chunk, part = piece
        thresholds = self.thresholds[chunk.tensor, chunk.start]
        done = self.compiled.magnitudes(chunk, part, thresholds, self.position)
        if done is not None:
            return done
        vectors, _ = self.computation.vectors(chunk, part, thresholds, self.position, check=False)
        return [magnitudes(values) for values in vectors]

    def count(self, number: int, piece: PlannedChunk, searches: Sequence[tuple[int, Search]]) -> None:
        """Add run `number` to searches, given as (source, search)."""
        chunk, part = piece
        thresholds = self.thresholds[chunk.tensor, chunk.start]
        intervals = [(source, search.low, search.high) for source, search in searches]
        done = self.compiled.counted(chunk, part, thresholds, self.position, intervals)
        if done is not None:
            for place, (_, search) in enumerate(searches):
                search.add(number, *done.found(place))
            return
        runs = self.of(piece)
        for source, search in searches:
            search.add(number, *inside(runs[source], search.low, search.high))

    def sample(self, piece: PlannedChunk, every: int) -> list[Bits]:
        """About one in `every` of the magnitudes of a run, for each source: those at its beginning, in whole rows."""
        chunk, part = piece
        row = self.row(chunk.tensor)
        size = max((chunk.stop - chunk.start) // every // row, 1) * row
        return self.of((Chunk(chunk.tensor, chunk.start, min(chunk.start + size, chunk.stop)), part))

    def row(self, tensor: str) -> int:
        """The number of elements that belong together for the earlier stages."""
        by_rows = any(
            earlier[0].unit == "row" for earlier in self.computation.program.applied(tensor).steps[: self.position]
        )
        return row_of(self.computation.plan.merged[tensor].shape) if by_rows else 1


def find_thresholds(
    computation: Computation, compiled: CompiledRuns, pieces: Sequence[PlannedChunk], workers: int
) -> Thresholds:
    """The thresholds of every run, for all stages that need any."""
    thresholds: Thresholds = {(chunk.tensor, chunk.start): {} for chunk, _ in pieces}
    methods = computation.program.methods
    # Rules that change only λ or weights share their thresholds with the first method that has the same stages and base.
    sharing = [
        next(n for n, first in enumerate(methods) if first.stages == applied.stages and first.base is applied.base)
        for applied in methods
    ]
    by_method: dict[int, list[PlannedChunk]] = {}
    for piece in pieces:
        by_method.setdefault(sharing[computation.program.index_of(piece[0].tensor)], []).append(piece)
    for number, own in sorted(by_method.items()):
        for position, stages in enumerate(methods[number].steps):
            if not stages[0].ranks(1):
                continue
            groups = list(_groups(stages[0], own).values())
            seen = _Magnitudes(computation, compiled, thresholds, position)
            small = [group for group in groups if is_small(_size(group))]
            large = [group for group in groups if not is_small(_size(group))]
            found: list[_Found] = []
            for_each(small, lambda group: found.extend(_searched(group, stages, seen, HoldingSearch, 1)), workers)  # noqa: B023
            for group in large:
                found.extend(_searched(group, stages, seen, CountingSearch, workers))
            for chunk, source, own_thresholds in found:
                thresholds[chunk.tensor, chunk.start][source, position] = own_thresholds
    return thresholds


def _groups(stage: Stage, pieces: Iterable[PlannedChunk]) -> dict[str, list[PlannedChunk]]:
    """Groups of runs that share a threshold, by tower or tensor."""
    groups: dict[str, list[PlannedChunk]] = {}
    for chunk, part in pieces:
        key = {"model": "", "tower": tower_of(chunk.tensor), "tensor": chunk.tensor}[stage.scope]
        groups.setdefault(key, []).append((chunk, part))
    return groups


def _size(group: Sequence[PlannedChunk]) -> int:
    return sum(chunk.stop - chunk.start for chunk, _ in group)


def is_small(size: int) -> bool:
    """Whether one thread finds the thresholds of a group of this size."""
    return size <= SMALL_GROUP


def _searched(
    group: Sequence[PlannedChunk],
    stages: Sequence[Stage],
    seen: _Magnitudes,
    kind: type[Search],
    workers: int,
) -> list[_Found]:
    """The thresholds of a group; `stages` holds the stage of each source."""
    size = _size(group)
    if kind is HoldingSearch and size < _SAMPLED_FROM:
        searches = [[kind(rank) for rank in stage.ranks(size)] for stage in stages]
    else:
        sample = _sample(group, seen, workers)
        searches = [
            [kind.from_sample(rank, size, bits) for rank in stage.ranks(size)]
            for stage, bits in zip(stages, sample, strict=True)
        ]
    numbered = list(enumerate(group))
    every = [(source, search) for source, wanted in enumerate(searches) for search in wanted]
    while still := [(source, search) for source, search in every if not search.settled]:

        def count(numbered: tuple[int, PlannedChunk], still: list[tuple[int, Search]] = still) -> None:
            with frame():
                seen.count(*numbered, still)

        for_each(numbered, count, workers)
        for _, search in still:
            search.narrow()
    found = []
    for source, wanted in enumerate(searches):
        by_run = [search.by_run(len(group)) for search in wanted]
        for (chunk, _), *thresholds in zip(group, *by_run, strict=True):
            found.append((chunk, source, tuple(thresholds)))
    return found


def _sample(group: Sequence[PlannedChunk], seen: _Magnitudes, workers: int) -> list[Bits]:
    """A sample of the group's magnitudes for each source."""
    taken: dict[int, list[Bits]] = {}
    every = max(_SAMPLE, _size(group) // _MOST_SAMPLED)

    def take(numbered: tuple[int, PlannedChunk]) -> None:
        number, piece = numbered
        with frame():
            taken[number] = [bits.copy() for bits in seen.sample(piece, every)]

    for_each(list(enumerate(group)), take, workers)
    return [np.concatenate([taken[number][source] for number in sorted(taken)]) for source in range(len(taken[0]))]
