"""Runs of a merge computed by the native loops, if there are any and they support the method; bit for bit equal to numpy."""

import math
from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays import exact_sums
from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.floats import LARGEST, STORAGE, narrow, widen
from mmgrid.merging.engine.arithmetic import Computation, MethodVariants, RunThresholds
from mmgrid.merging.kernels.choice import loops
from mmgrid.merging.kernels.library import Loops
from mmgrid.merging.kernels.operations import KNOWN, Operation, operations_of
from mmgrid.merging.kernels.tables import RunTable, SearchTable, VariantTable, address_of
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.plan.plan import TensorPart
from mmgrid.merging.plan.program import AppliedMethod

_INFINITY = 0x7F800000
_Steps = tuple[tuple[tuple[Operation, int], ...], ...]  # for each source: operation, number of the stage


def is_known(applied: AppliedMethod) -> bool:
    """Whether the loops support a method and its stages."""
    method = applied.method
    combines = method.gram_along(applied.options) == "tensor" if method.takes_gram else method.combining is not None
    return combines and all(type(stage) in KNOWN for own in applied.stages for stage in own)


class CompiledRuns:
    """Does the work of `Computation` with the native loops. Threads may share it.

    Each method may return None, and numpy then has to do the work: for methods and stages that the loops do not
    support, without a library of loops, and for runs whose values are not finite or do not fit, where numpy raises
    the error.
    """

    def __init__(self, computation: Computation) -> None:
        self._computation = computation
        self._steps: dict[str, _Steps | None] = {}

    def results(
        self,
        chunk: Chunk,
        part: TensorPart,
        thresholds: RunThresholds,
        methods: MethodVariants,
    ) -> tuple[list[np.ndarray], list[int]] | None:
        """A run of the result under each of `methods`, as `Computation.results` returns it."""
        if methods[0][0].method.takes_passes:
            return self._by_passes(chunk, part, methods)
        native = loops()
        info = self._computation.plan.merged[chunk.tensor]
        if (
            native is None
            or not is_known(methods[0][0])
            or (table := self._table(native, chunk, part, thresholds)) is None
        ):
            return None
        depth = self._computation.depth[chunk.tensor]
        on_deltas = methods[0][0].on_deltas
        combinations = []
        for applied, prepared in methods:
            assert not callable(prepared)
            scale = applied.scale_at(depth)
            combination = applied.method.combination(applied.weights, applied.options, prepared)
            if combination is None:
                return None
            combinations.append(None if on_deltas and scale == 0 else (combination, scale))
        n, size = len(self._computation.names), chunk.stop - chunk.start
        halves = info.dtype == "bfloat16"
        targets = [take(size, np.uint16 if halves else np.float32) for _ in methods]
        variants, kept = VariantTable(combinations, targets, n), np.zeros(n, np.int64)
        worst = native.merged(
            table.address, address_of(table.room), variants.address, len(methods), address_of(kept)
        )  # fmt: skip
        if worst >= _INFINITY or not all(size <= LARGEST[info.dtype] for size in variants.sizes):
            return None
        if not halves:
            targets = [narrow(target, info.dtype) for target in targets]
        return targets, kept.tolist()

    def _by_passes(
        self, chunk: Chunk, part: TensorPart, methods: MethodVariants
    ) -> tuple[list[np.ndarray], list[int]] | None:
        """As `results`, for methods that compute runs by functions of their own."""
        vectors = self.vectors(chunk, part)
        if vectors is None:
            return None
        base = self._computation.base(chunk, part) if methods[0][0].on_deltas else None
        results = [self._computation.result(chunk, vectors, base, applied, prepared) for applied, prepared in methods]
        return results, [0] * len(vectors)

    def vectors(self, chunk: Chunk, part: TensorPart) -> list[np.ndarray] | None:
        """The method's input for a run, float32, for a method without stages."""
        native = loops()
        if native is None or (table := self._table(native, chunk, part, {})) is None:
            return None
        targets = [take(chunk.stop - chunk.start) for _ in self._computation.names]
        addresses = np.array([address_of(target) for target in targets], np.int64)
        worst = native.loaded(table.address, address_of(table.room), address_of(addresses))
        return None if worst >= _INFINITY else targets

    def magnitudes(
        self, chunk: Chunk, part: TensorPart, thresholds: RunThresholds, n_stages: int
    ) -> list[np.ndarray] | None:
        """The bits of the magnitudes of each source after the first `n_stages` stages."""
        native = loops()
        if native is None or (table := self._table(native, chunk, part, thresholds, n_stages)) is None:
            return None
        targets = [take(chunk.stop - chunk.start, np.uint32) for _ in self._computation.names]
        addresses = np.array([address_of(target) for target in targets], np.int64)
        worst = native.magnitudes(table.address, address_of(table.room), address_of(addresses))
        return None if worst >= _INFINITY else targets

    def counted(
        self,
        chunk: Chunk,
        part: TensorPart,
        thresholds: RunThresholds,
        n_stages: int,
        searches: Sequence[tuple[int, int, int]],
    ) -> SearchTable | None:
        """Counts of the run after the first `n_stages` stages, for searches given as (source, lowest bits, highest bits)."""
        native = loops()
        if native is None or (table := self._table(native, chunk, part, thresholds, n_stages)) is None:
            return None
        found = SearchTable(searches, chunk.stop - chunk.start)
        worst = native.counted(table.address, address_of(table.room), found.address, len(searches))
        return None if worst >= _INFINITY else found

    def products(self, chunk: Chunk, part: TensorPart) -> np.ndarray | None:
        """The inner products of all pairs of sources in each block of the run, as `exact_sums.block_products`."""
        native = loops()
        if native is None or (table := self._table(native, chunk, part, {})) is None:
            return None
        n, block = len(self._computation.names), exact_sums.DOT_BLOCK
        lanes = exact_sums.lanes_of(block)
        products = np.empty((-(-(chunk.stop - chunk.start) // block), n, n))
        sums = take(n * n * lanes, np.float64)
        worst = native.products(
            table.address, address_of(table.room), address_of(products), address_of(sums), block, lanes
        )  # fmt: skip
        return None if worst >= _INFINITY else products

    def _table(
        self,
        native: Loops,
        chunk: Chunk,
        part: TensorPart,
        thresholds: RunThresholds,
        n_stages: int | None = None,
    ) -> RunTable | None:
        applied = self._computation.program.applied(chunk.tensor)
        steps = self._steps_of(chunk)
        on_deltas = applied.on_deltas
        if steps is None or applied.method.whole_tensors or (on_deltas and part.base is None):
            return None
        sources = [
            _read(source, chunk, part.sources[name] - part.start)
            for name, source in self._computation.program.sources.items()
        ]
        if on_deltas:
            assert applied.base is not None
            assert part.base is not None
            sources.append(_read(applied.base, chunk, part.base - part.start))
        limit = math.inf if n_stages is None else n_stages
        own = [
            [(operation, thresholds.get((number, stage), ())) for operation, stage in steps_of_source if stage < limit]
            for number, steps_of_source in enumerate(steps)
        ]
        return RunTable(sources, on_deltas, chunk.start, own, bool(applied.steps), native.rows_at_once)

    def _steps_of(self, chunk: Chunk) -> _Steps | None:
        """The operations on the sources of a tensor; None if the loops do not support a stage."""
        if chunk.tensor not in self._steps:
            self._steps[chunk.tensor] = self._new_steps(chunk)
        return self._steps[chunk.tensor]

    def _new_steps(self, chunk: Chunk) -> _Steps | None:
        sources = []
        for number, stages in enumerate(self._computation.program.applied(chunk.tensor).stages):
            steps = []
            for position, stage in enumerate(stages):
                operations = operations_of(stage, self._computation.place(chunk, number, position))
                if operations is None:
                    return None
                steps += [(operation, position) for operation in operations]
            sources.append(tuple(steps))
        return tuple(sources)


def _read(tensors: Tensors, chunk: Chunk, offset: int) -> np.ndarray:
    """A run of a source, as bfloat16 or float32."""
    dtype = tensors.info(chunk.tensor).dtype
    stored = tensors.read(chunk.tensor, chunk.start + offset, chunk.stop + offset)
    values = stored if dtype == "bfloat16" else widen(stored, dtype)
    return np.require(values, STORAGE["bfloat16" if dtype == "bfloat16" else "float32"], ["C", "A"])
