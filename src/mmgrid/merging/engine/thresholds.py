"""Finds the thresholds of stages that keep the largest magnitudes of a tensor, tower or model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmgrid.merging.arrays.buffers import frame, take
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.floats import magnitudes
from mmgrid.merging.arrays.names import tower_of
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation
from mmgrid.merging.engine.compiled_runs import CompiledRuns
from mmgrid.merging.engine.threshold_search import TOP, Bits, ThresholdSearch, thresholds_by_run
from mmgrid.merging.kernels.counting import ranked
from mmgrid.merging.methods.stages import RunThreshold, Stage
from mmgrid.merging.plan.plan import PlannedChunk

# (tensor, first element of the run) → (number of the source, number of the stage) → the thresholds of the run
Thresholds = dict[tuple[str, int], dict[tuple[int, int], tuple[RunThreshold, ...]]]
SMALL_GROUP = 1 << 22  # up to this size the magnitudes of a group are held in memory; larger ones are counted
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

    def count(self, number: int, piece: PlannedChunk, searches: Sequence[tuple[int, ThresholdSearch]]) -> None:
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
            search.count(number, runs[source])


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
            by_rows = any(earlier[0].unit == "row" for earlier in methods[number].steps[:position])

            def row(tensor: str, by_rows: bool = by_rows) -> int:
                shape = computation.plan.merged[tensor].shape
                return shape[-1] if by_rows and shape else 1

            small = [group for group in groups if _size(group) <= SMALL_GROUP]
            large = [group for group in groups if _size(group) > SMALL_GROUP]
            found: list[tuple[Chunk, int, tuple[RunThreshold, ...]]] = []
            for_each(small, lambda group: found.extend(_in_memory(group, stages, seen)), workers)  # noqa: B023
            for group in large:
                found.extend(_by_counting(group, stages, seen, row, workers))
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


def _in_memory(
    group: Sequence[PlannedChunk], stages: Sequence[Stage], seen: _Magnitudes
) -> list[tuple[Chunk, int, tuple[RunThreshold, ...]]]:
    """The thresholds of a group whose magnitudes fit into memory; `stages` holds the stage of each source."""
    size = _size(group)
    ends = np.cumsum([chunk.stop - chunk.start for chunk, _ in group]).tolist()
    found: list[tuple[Chunk, int, tuple[RunThreshold, ...]]] = []
    with frame():
        sources: list[Bits] = []
        for piece, end in zip(group, ends, strict=True):
            with frame():
                runs = seen.of(piece)
                if not sources:
                    sources = [np.empty(size, np.uint32) for _ in runs]  # they outlive this frame
                for bits, run in zip(sources, runs, strict=True):
                    bits[end - len(run) : end] = run
        for source, bits in enumerate(sources):
            runs = np.split(bits, ends[:-1])
            every = [_by_run(runs, *_threshold_of(bits, rank)) for rank in stages[source].ranks(size)]
            for (chunk, _), *thresholds in zip(group, *every, strict=True):
                found.append((chunk, source, tuple(thresholds)))
    return found


def _threshold_of(bits: Bits, rank: int) -> tuple[int, int]:
    """The bits of the rank-th largest magnitude, and the number of equal elements that count as above it."""
    n = len(bits)
    if rank <= 0:
        return TOP, 0
    if (done := ranked(bits, rank)) is not None:
        return done
    ordered = take(n, np.uint32)
    ordered[:] = bits
    ordered.partition(n - rank)
    threshold = int(ordered[n - rank])
    return threshold, rank - int(np.count_nonzero(ordered[n - rank :] > np.uint32(threshold)))


def _by_run(runs: Sequence[Bits], threshold: int, quota: int) -> list[RunThreshold]:
    return thresholds_by_run(threshold, quota, [int(np.count_nonzero(run == np.uint32(threshold))) for run in runs])


def _by_counting(
    group: Sequence[PlannedChunk],
    stages: Sequence[Stage],
    seen: _Magnitudes,
    row: Callable[[str], int],
    workers: int,
) -> list[tuple[Chunk, int, tuple[RunThreshold, ...]]]:
    size = _size(group)
    sample = _sample(group, seen, row, workers)
    searches = [
        [ThresholdSearch.from_sample(rank, size, bits) for rank in stage.ranks(size)]
        for stage, bits in zip(stages, sample, strict=True)
    ]
    numbered = list(enumerate(group))
    every = [(source, search) for source, wanted in enumerate(searches) for search in wanted]
    while still := [(source, search) for source, search in every if not search.settled]:

        def count(numbered: tuple[int, PlannedChunk], still: list[tuple[int, ThresholdSearch]] = still) -> None:
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


def _sample(group: Sequence[PlannedChunk], seen: _Magnitudes, row: Callable[[str], int], workers: int) -> list[Bits]:
    """A sample of the group's magnitudes for each source: the beginning of every run, in whole rows of `row(tensor)`."""
    taken: dict[int, list[Bits]] = {}
    every = max(_SAMPLE, _size(group) // _MOST_SAMPLED)

    def take(numbered: tuple[int, PlannedChunk]) -> None:
        number, (chunk, part) = numbered
        whole = row(chunk.tensor)
        share = max((chunk.stop - chunk.start) // every // whole, 1) * whole
        taken[number] = seen.of((Chunk(chunk.tensor, chunk.start, min(chunk.start + share, chunk.stop)), part))

    for_each(list(enumerate(group)), take, workers)
    return [np.concatenate([taken[number][source] for number in sorted(taken)]) for source in range(len(taken[0]))]
