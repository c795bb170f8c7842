"""The cuts between ranks of magnitude, which must be known before a stage can keep what lies above one."""

from __future__ import annotations

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
from mmgrid.merging.engine.threshold_search import TOP, Bits, Search, falling
from mmgrid.merging.kernels.counting import ranked
from mmgrid.merging.methods.stages import Cut, Stage
from mmgrid.merging.plan.plan import Piece

# (tensor, first element of the run) → (source, stage) → the cuts as they fall on the run
Cuts = dict[tuple[str, int], dict[tuple[int, int], tuple[Cut, ...]]]
SMALL_GROUP = 1 << 22  # elements of a group that are held in memory instead of being counted run by run
_SAMPLE = 64  # one element in so many …
_MOST_SAMPLED = 1 << 21  # … but no more than this, however large the model


@dataclass(frozen=True)
class _Magnitudes:
    """The magnitudes that stage number `position` will see, run by run."""

    computation: Computation
    compiled: CompiledRuns
    cuts: Cuts
    position: int

    def of(self, piece: Piece) -> list[Bits]:
        """Their bits, for each source."""
        chunk, part = piece
        cuts = self.cuts[chunk.tensor, chunk.start]
        done = self.compiled.magnitudes(chunk, part, cuts, self.position)
        if done is not None:
            return done
        vectors, _ = self.computation.vectors(chunk, part, cuts, self.position, check=False)
        return [magnitudes(values) for values in vectors]

    def count(self, number: int, piece: Piece, searches: Sequence[tuple[int, Search]]) -> None:
        """Have searches, each in a source, count run `number`."""
        chunk, part = piece
        cuts = self.cuts[chunk.tensor, chunk.start]
        intervals = [(source, search.low, search.high) for source, search in searches]
        done = self.compiled.counted(chunk, part, cuts, self.position, intervals)
        if done is not None:
            for place, (_, search) in enumerate(searches):
                search.add(number, *done.found(place))
            return
        runs = self.of(piece)
        for source, search in searches:
            search.count(number, runs[source])


def gather_cuts(computation: Computation, compiled: CompiledRuns, pieces: Sequence[Piece], workers: int) -> Cuts:
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

            seen = _Magnitudes(computation, compiled, cuts, position)
            by_rows = any(earlier[0].unit == "row" for earlier in programs[number].steps[:position])

            def row(tensor: str, by_rows: bool = by_rows) -> int:
                shape = computation.plan.merged[tensor].shape
                return shape[-1] if by_rows and shape else 1

            small = [group for group in groups if _size(group) <= SMALL_GROUP]
            large = [group for group in groups if _size(group) > SMALL_GROUP]
            found: list[tuple[Chunk, int, tuple[Cut, ...]]] = []
            for_each(small, lambda group: found.extend(_in_memory(group, stages, seen)), workers)  # noqa: B023
            for group in large:
                found.extend(_by_counting(group, stages, seen, row, workers))
            for chunk, source, own_cuts in found:
                cuts[chunk.tensor, chunk.start][source, position] = own_cuts
    return cuts


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
    group: Sequence[Piece], stages: Sequence[Stage], seen: _Magnitudes
) -> list[tuple[Chunk, int, tuple[Cut, ...]]]:
    """The cuts of a group whose magnitudes are held all at once; `stages` is the stage of each source."""
    size = _size(group)
    ends = np.cumsum([chunk.stop - chunk.start for chunk, _ in group]).tolist()
    found: list[tuple[Chunk, int, tuple[Cut, ...]]] = []
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
            every = [_falling(runs, *_cut_of(bits, rank)) for rank in stages[source].ranks(size)]
            for (chunk, _), *cuts in zip(group, *every, strict=True):
                found.append((chunk, source, tuple(cuts)))
    return found


def _cut_of(bits: Bits, rank: int) -> tuple[int, int]:
    """The bits of the rank-th largest, and how many elements that equal it lie above the cut."""
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


def _falling(runs: Sequence[Bits], threshold: int, quota: int) -> list[Cut]:
    return falling(threshold, quota, [int(np.count_nonzero(run == np.uint32(threshold))) for run in runs])


def _by_counting(
    group: Sequence[Piece],
    stages: Sequence[Stage],
    seen: _Magnitudes,
    row: Callable[[str], int],
    workers: int,
) -> list[tuple[Chunk, int, tuple[Cut, ...]]]:
    size = _size(group)
    sample = _sample(group, seen, row, workers)
    searches = [
        [Search.from_sample(rank, size, bits) for rank in stage.ranks(size)]
        for stage, bits in zip(stages, sample, strict=True)
    ]
    numbered = list(enumerate(group))
    every = [(source, search) for source, wanted in enumerate(searches) for search in wanted]
    while still := [(source, search) for source, search in every if not search.settled]:

        def count(numbered: tuple[int, Piece], still: list[tuple[int, Search]] = still) -> None:
            with frame():
                seen.count(*numbered, still)

        for_each(numbered, count, workers)
        for _, search in still:
            search.narrow()
    found = []
    for source, wanted in enumerate(searches):
        fallen = [search.falling(len(group)) for search in wanted]
        for (chunk, _), *cuts in zip(group, *fallen, strict=True):
            found.append((chunk, source, tuple(cuts)))
    return found


def _sample(group: Sequence[Piece], seen: _Magnitudes, row: Callable[[str], int], workers: int) -> list[Bits]:
    """Some of the group's magnitudes, by source: the beginning of every run, in whole rows of `row(tensor)`."""
    taken: dict[int, list[Bits]] = {}
    every = max(_SAMPLE, _size(group) // _MOST_SAMPLED)

    def take(numbered: tuple[int, Piece]) -> None:
        number, (chunk, part) = numbered
        whole = row(chunk.tensor)
        share = max((chunk.stop - chunk.start) // every // whole, 1) * whole
        taken[number] = seen.of((Chunk(chunk.tensor, chunk.start, min(chunk.start + share, chunk.stop)), part))

    for_each(list(enumerate(group)), take, workers)
    return [np.concatenate([taken[number][source] for number in sorted(taken)]) for source in range(len(taken[0]))]
