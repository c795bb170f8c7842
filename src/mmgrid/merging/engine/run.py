"""Runs the program of a merge: read in any floating-point type, compute in float32, round once.

Memory is bounded by a few runs of elements per thread, whatever the size of the model. Sums run in the order of the
sources' names, so neither the order in which sources are listed, nor threads, nor the length of the runs change a bit.
"""

import functools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, NATIVE_ELEMENTS, chunks_of, columns_of, row_of
from mmgrid.merging.arrays.exact_sums import DOT_BLOCK, rows_of_block
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation, MethodVariants
from mmgrid.merging.engine.compiled_runs import CompiledRuns, is_known
from mmgrid.merging.engine.held import HeldProgram
from mmgrid.merging.engine.kept_counts import KeptCounts
from mmgrid.merging.engine.preparation import needs_passes, prepare_methods
from mmgrid.merging.engine.progress import TensorProgress
from mmgrid.merging.engine.thresholds import Thresholds, find_thresholds, is_small
from mmgrid.merging.kernels.choice import loops
from mmgrid.merging.plan.plan import Plan, PlannedChunk
from mmgrid.merging.plan.program import AppliedMethod, Program, Scale


class Sink(Protocol):
    """Receives runs of the result; several threads may write at once."""

    def write(self, name: str, start: int, stored: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Variant:
    """One of several results computed from one reading of the sources: its sink, and its own weights or scale."""

    sink: Sink
    weights: Sequence[float] | None = None
    scale: Scale | None = None

    def of(self, applied: AppliedMethod) -> AppliedMethod:
        """The method with this variant's weights and scale."""
        changes = {}
        if self.weights is not None:
            changes["weights"] = self.weights
        if self.scale is not None:
            changes["scale"] = self.scale
        return replace(applied, **changes) if changes else applied


def run(
    program: Program,
    plan: Plan,
    variants: Sequence[Variant],
    *,
    workers: int,
    skip: Iterable[str] = (),
    done: TensorProgress | None = None,
    elements: int | None = None,
    counts: KeptCounts | None = None,
) -> KeptCounts:
    """Compute all tensors except those in `skip`, and write each variant's to its sink.

    Args:
        elements: approximate number of elements in a run, rounded up to blocks of inner products, so that no bit
            depends on it. Default: the fastest number.
        counts: counts of the tensors in `skip`; the others are added to it.
    """
    held = HeldProgram(program)
    program = held.program
    elements = _run_elements(program, plan, elements)
    computation, skipped = Computation(program, plan), set(skip)
    compiled = CompiledRuns(computation)
    alone, together = _parted(program, plan, merged_chunks(program, plan, elements))
    thresholds = find_thresholds(computation, compiled, together, workers)  # over skipped tensors, too: they count
    remaining = [piece for piece in together if piece[0].tensor not in skipped]
    methods = prepare_methods(computation, compiled, remaining, [variant.of for variant in variants], workers)
    copies = [piece for piece in _copied_chunks(plan, elements) if piece[0].tensor not in skipped]
    finished = _Finished(plan, KeptCounts() if counts is None else counts, done)
    writer = _Writer(computation, compiled, variants, thresholds, methods, finished)
    for name in plan.kept:
        if name not in skipped:
            writer.keep(name)

    def write_alone(name: str) -> None:
        with frame(), held.holding(name):
            writer.write_alone(alone[name])

    todo = [functools.partial(writer.write, piece) for piece in (*copies, *remaining)]
    todo += [functools.partial(write_alone, name) for name in alone if name not in skipped]
    for_each(todo, lambda work: work(), workers)
    for name, info in plan.infos.items():
        if not info.size and name not in skipped:
            finished.add_empty(name)
    return finished.counts


@dataclass
class _Finished:
    """Adds up the finished elements of each tensor."""

    plan: Plan
    counts: KeptCounts
    done: TensorProgress | None
    _elements: dict[str, int] = field(default_factory=dict)
    _adding: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._infos = self.plan.infos

    def add(self, name: str, size: int, kept: Mapping[str, int]) -> None:
        """Add a run of `size` elements; `kept`: source → elements that its stages left."""
        with self._adding:
            for source, number in kept.items():
                self.counts.add(source, name, number, size)
            self._elements[name] = self._elements.get(name, 0) + size
            if self.done is not None:
                self.done(name, self._elements[name], self._infos[name].size)

    def add_empty(self, name: str) -> None:
        """Report a tensor without elements, which no run contains."""
        if self.done is not None:
            self.done(name, 0, 0)


@dataclass(frozen=True)
class _Writer:
    """Computes runs and writes them to the sinks of all variants. Threads share it."""

    computation: Computation
    compiled: CompiledRuns
    variants: Sequence[Variant]
    thresholds: Thresholds
    methods: Mapping[str, MethodVariants]
    finished: _Finished

    def keep(self, name: str) -> None:
        """Write a tensor that is taken from the sources unchanged."""
        whole = self.computation.kept(name)
        for variant in self.variants:
            variant.sink.write(name, 0, whole)
        self.finished.add(name, whole.size, {})

    def write_alone(self, pieces: Sequence[PlannedChunk]) -> None:
        """Gather the statistics of a tensor, and write it."""
        thresholds = find_thresholds(self.computation, self.compiled, pieces, 1)
        of_variants = [variant.of for variant in self.variants]
        methods = prepare_methods(self.computation, self.compiled, pieces, of_variants, 1)
        own = replace(self, thresholds=thresholds, methods=methods)
        for piece in pieces:
            own.write(piece)

    def write(self, piece: PlannedChunk) -> None:
        with frame():
            self._write(piece)

    def _write(self, piece: PlannedChunk) -> None:
        chunk, part = piece
        size = chunk.stop - chunk.start
        if not part.merged:
            copied = self.computation.copied(chunk, part)
            for variant in self.variants:
                variant.sink.write(chunk.tensor, chunk.start, copied)
            self.finished.add(chunk.tensor, size, {})
            return
        applied, thresholds = self.computation.program.applied(chunk.tensor), self.thresholds[chunk.tensor, chunk.start]
        each = self.methods[chunk.tensor]
        done = self.compiled.results(chunk, part, thresholds, each)
        results, left = done if done is not None else self.computation.results(chunk, part, thresholds, each)
        for variant, result in zip(self.variants, results, strict=True):
            variant.sink.write(chunk.tensor, chunk.start, result)
        kept = dict(zip(self.computation.names, left, strict=True)) if applied.steps else {}
        self.finished.add(chunk.tensor, size, kept)


def _run_elements(program: Program, plan: Plan, elements: int | None) -> int:
    """The length of a run: longer ones for the native loops, if they do most of the merge."""
    if elements is None:
        by_loops = sum(info.size for name, info in plan.merged.items() if _is_by_loops(program.applied(name)))
        is_native = loops() is not None and 2 * by_loops > sum(info.size for info in plan.merged.values())
        elements = NATIVE_ELEMENTS if is_native else CHUNK_ELEMENTS
    return max(-(-elements // DOT_BLOCK), 1) * DOT_BLOCK


def _is_by_loops(applied: AppliedMethod) -> bool:
    """Whether the native loops do most of a method's work."""
    return is_known(applied) or applied.method.takes_passes


def merged_chunks(program: Program, plan: Plan, elements: int) -> list[PlannedChunk]:
    """The elements that are computed, in canonical order, in runs as long as their method allows."""
    pieces = []
    for name, part in plan.merged_parts():
        applied = program.applied(name)
        length = max(part.stop - part.start, 1) if _is_whole(applied) else elements
        unit = _unit(applied, plan.merged[name].shape)
        pieces += [
            (replace(chunk, start=chunk.start + part.start, stop=chunk.stop + part.start), part)
            for chunk in chunks_of(name, part.stop - part.start, length, unit)
        ]
    return pieces


def _is_whole(applied: AppliedMethod) -> bool:
    """Whether a method needs tensors as a whole."""
    return applied.method.whole_tensors or any(stages[0].unit == "tensor" for stages in applied.steps)


def _unit(applied: AppliedMethod, shape: tuple[int, ...]) -> int:
    """The number of elements that a run of a tensor must not part."""
    along = applied.method.gram_along(applied.options) if applied.method.takes_gram else "tensor"
    if along == "columns":
        return rows_of_block(columns_of(shape)) * columns_of(shape)
    by_rows = along == "rows" or any(stages[0].unit == "row" for stages in applied.steps)
    return row_of(shape) if by_rows else 1


def _parted(
    program: Program, plan: Plan, pieces: Sequence[PlannedChunk]
) -> tuple[dict[str, list[PlannedChunk]], list[PlannedChunk]]:
    """The runs of tensors that one thread finishes alone, tensor by tensor, and all other runs.

    One thread takes a small tensor whose statistics are its own: it stays in the processor's cache from pass to pass,
    and writing begins at once.
    """
    alone: dict[str, list[PlannedChunk]] = {}
    together = []
    for chunk, part in pieces:
        applied = program.applied(chunk.tensor)
        scopes = {stages[0].scope for stages in applied.steps if stages[0].ranks(1)}
        needs_statistics = bool(scopes) or needs_passes(applied)
        if needs_statistics and scopes <= {"tensor"} and is_small(plan.merged[chunk.tensor].size):
            alone.setdefault(chunk.tensor, []).append((chunk, part))
        else:
            together.append((chunk, part))
    return alone, together


def _copied_chunks(plan: Plan, elements: int) -> list[PlannedChunk]:
    """The elements that are copied from one source."""
    return [
        (replace(chunk, start=chunk.start + part.start, stop=chunk.stop + part.start), part)
        for name, parts in plan.parts.items()
        for part in parts
        if not part.merged
        for chunk in chunks_of(name, part.stop - part.start, elements)
    ]
