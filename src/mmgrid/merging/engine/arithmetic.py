"""The arithmetic of a merge, run by run: read, widen, subtract the base, apply stages, combine, add the base, round."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.chunks import Chunk, row_of
from mmgrid.merging.arrays.exact_sums import gram_of_rows
from mmgrid.merging.arrays.floats import LARGEST, Floats, all_finite, largest, narrow, widen
from mmgrid.merging.arrays.names import depths
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import weighted_sum
from mmgrid.merging.methods.passes import OfRun
from mmgrid.merging.methods.stages import Place, RunThreshold
from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.plan.plan import BASE, Plan, TensorPart
from mmgrid.merging.plan.program import AppliedMethod, Program
from mmgrid.merging.plan.statistics import statistics_name

# (number of the source, number of the stage) → the thresholds of a run
RunThresholds = Mapping[tuple[int, int], Sequence[RunThreshold]]
# What a method knows about a tensor beforehand: the coefficients of one that takes inner products, float64 [n] or, for
# each column, [columns, n] (those of rows follow from each run); the function of one that takes passes.
Prepared = np.ndarray | OfRun | None
# One method with several weights and scales
MethodVariants = Sequence[tuple[AppliedMethod, Prepared]]


class Computation:
    """Computes the runs of a program under a plan. Holds no tensors; threads may share it."""

    def __init__(self, program: Program, plan: Plan) -> None:
        self.program = program
        self.plan = plan
        self.names = list(program.sources)
        self.depth = depths(plan.merged)

    def vectors(
        self,
        chunk: Chunk,
        part: TensorPart,
        thresholds: RunThresholds,
        n_stages: int | None = None,
        *,
        check: bool = True,
    ) -> tuple[list[Floats], Floats | None]:
        """The method's input for a run: θ or τ of each source after the first `n_stages` stages, and the base.

        Args:
            check: refuse values that are not finite. Passes that only prepare a merge leave this to the merge.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # `rounded` refuses values that are too large
            return self._vectors(chunk, part, thresholds, n_stages, check)

    def _vectors(
        self,
        chunk: Chunk,
        part: TensorPart,
        thresholds: RunThresholds,
        n_stages: int | None,
        check: bool,
    ) -> tuple[list[Floats], Floats | None]:
        applied = self.program.applied(chunk.tensor)
        tensors = [
            read_values(source, name, chunk, part.sources[name] - part.start, check=check)
            for name, source in self.program.sources.items()
        ]
        if not applied.on_deltas:
            return tensors, None
        base = self.base(chunk, part, check=check)
        for number, values in enumerate(tensors):
            delta = np.subtract(values, base, out=take(len(values)))  # `values` may be the source's own memory
            tensors[number] = self._staged(applied, delta, number, chunk, thresholds, n_stages)
        return tensors, base

    def base(self, chunk: Chunk, part: TensorPart, *, check: bool = True) -> Floats:
        """The run of θ₀, for a method of task vectors."""
        applied = self.program.applied(chunk.tensor)
        assert applied.base is not None
        if part.base is None:
            raise MergeError(
                f"tensor {chunk.tensor}: the base lacks rows that are to be merged; keep, append or drop their block"
            )
        return read_values(applied.base, BASE, chunk, part.base - part.start, check=check)

    def _staged(
        self,
        applied: AppliedMethod,
        delta: Floats,
        number: int,
        chunk: Chunk,
        thresholds: RunThresholds,
        n_stages: int | None,
    ) -> Floats:
        for position, stage in enumerate(applied.stages[number][:n_stages]):
            place = self.place(chunk, number, position)
            delta = stage.apply(delta, place, thresholds.get((number, position), ()))
        return delta

    def place(self, chunk: Chunk, source: int, stage: int) -> Place:
        shape = self.plan.merged[chunk.tensor].shape
        name = self.names[source]
        return Place(name, chunk.tensor, chunk.start, shape, self.depth[chunk.tensor], self.program.seed, stage)

    def results(
        self,
        chunk: Chunk,
        part: TensorPart,
        thresholds: RunThresholds,
        methods: MethodVariants,
    ) -> tuple[list[np.ndarray], list[int]]:
        """A run of the result under each of `methods`, and the number of elements that the stages leave of each source.

        Returns:
            The runs, stored as in `STORAGE`, and the numbers, which are 0 without stages.
        """
        vectors, base = self.vectors(chunk, part, thresholds)
        statistics = self.statistics(chunk, part)
        has_stages = bool(methods[0][0].steps)
        kept = [int(np.count_nonzero(vector)) if has_stages else 0 for vector in vectors]
        return [self.result(chunk, vectors, base, applied, prepared, statistics) for applied, prepared in methods], kept

    def statistics(self, chunk: Chunk, part: TensorPart) -> list[Floats] | None:
        """The statistics of each source for a run: of its elements, or, for a method of whole tensors, all of them.

        None for a method without statistics, and for tensors that have none.
        """
        method = self.program.applied(chunk.tensor).method
        if method.statistics is None:
            return None
        name = statistics_name(method.statistics, chunk.tensor)
        found = []
        for source in self.names:
            held = self.program.statistics[source]
            if name not in held:
                return None
            info, offset = held.info(name), part.sources[source] - part.start
            start, stop = (0, info.size) if method.whole_tensors else (chunk.start + offset, chunk.stop + offset)
            values = read_values(held, f"statistics of {source}", Chunk(name, start, stop), 0)
            found.append(values.reshape(info.shape) if method.whole_tensors else values)
        return found

    def result(
        self,
        chunk: Chunk,
        vectors: Sequence[Floats],
        base: Floats | None,
        applied: AppliedMethod,
        prepared: Prepared,
        statistics: Sequence[Floats] | None = None,
    ) -> np.ndarray:
        """A run of the result, rounded, stored as in `STORAGE`."""
        info = self.plan.merged[chunk.tensor]
        scale = applied.scale_at(self.depth[chunk.tensor])
        if base is not None and scale == 0:  # not base + 0 · Δ, which turns -0.0 into 0.0
            return rounded(chunk.tensor, base, info.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            combined = combine(applied, vectors, prepared, info, base, chunk.start, statistics)
            if base is not None:
                if scale != 1.0:
                    np.multiply(combined, np.float32(scale), out=combined)
                np.add(base, combined, out=combined)
        return rounded(chunk.tensor, combined, info.dtype)

    def copied(self, chunk: Chunk, part: TensorPart) -> np.ndarray:
        """A run that is copied from the only source of its part."""
        ((name, start),) = part.sources.items()
        values = read_values(self.program.sources[name], name, chunk, start - part.start)
        return rounded(chunk.tensor, values, self.plan.merged[chunk.tensor].dtype)

    def kept(self, name: str) -> np.ndarray:
        """A tensor of whole numbers, which must be equal in all sources."""
        size = self.plan.kept[name].size
        (first_name, first), *others = (
            (source, tensors.read(name, 0, size)) for source, tensors in self.program.sources.items()
        )
        for other_name, other in others:
            if not np.array_equal(first, other):
                what = "truth values" if self.plan.kept[name].dtype == "bool" else "whole numbers"
                raise MergeError(
                    f"tensor {name}: {what} cannot be averaged, and {first_name!r} and {other_name!r} differ in it"
                )
        return first


def combine(
    applied: AppliedMethod,
    vectors: Sequence[Floats],
    prepared: Prepared,
    info: TensorInfo,
    base: Floats | None = None,
    start: int = 0,
    statistics: Sequence[Floats] | None = None,
) -> Floats:
    """The method's result for a run that begins at `start`, or for a whole tensor if the method needs one; flat and new."""
    if applied.method.takes_gram:
        assert not callable(prepared)
        return _of_gram(applied, vectors, prepared, info)
    if applied.method.takes_passes:
        assert callable(prepared)
        return prepared(start, vectors)
    if applied.method.whole_tensors:
        shape = (-1, *info.shape[1:]) if info.shape else ()  # a block of token rows has fewer rows than the tensor
        shaped = [tensor.reshape(shape) for tensor in vectors]
        below = None if base is None else base.reshape(shape)
        merged = applied.method.combine(shaped, applied.weights, applied.options, below, statistics)
        return np.array(merged, np.float32).reshape(-1)
    return applied.method.combine(vectors, applied.weights, applied.options, statistics=statistics)


def _of_gram(
    applied: AppliedMethod, vectors: Sequence[Floats], coefficients: np.ndarray | None, info: TensorInfo
) -> Floats:
    """The linear combination with the coefficients of the tensor, or of each row or column."""
    if applied.method.gram_along(applied.options) == "rows":
        rows = [vector.reshape(-1, row_of(info.shape)) for vector in vectors]
        coefficients = applied.method.coefficients(gram_of_rows(rows), applied.weights, applied.options)
        return weighted_sum(rows, list(coefficients.T[..., None])).reshape(-1)
    assert coefficients is not None
    if coefficients.ndim == 1:
        return weighted_sum(vectors, coefficients.tolist())
    rows = [vector.reshape(-1, len(coefficients)) for vector in vectors]
    return weighted_sum(rows, list(coefficients.T)).reshape(-1)


def read_values(tensors: Tensors, source: str, chunk: Chunk, offset: int, *, check: bool = True) -> Floats:
    """A run of a source in float32, read `offset` elements behind its place in the result.

    Raises:
        MergeError: it holds NaN or an infinity, and `check` is on.
    """
    dtype = tensors.info(chunk.tensor).dtype
    stored = tensors.read(chunk.tensor, chunk.start + offset, chunk.stop + offset)
    values = widen(stored, dtype)
    if check and not all_finite(stored, values, dtype):
        what = "NaN" if np.isnan(values).any() else "an infinity"
        where = "the base" if source == BASE else f"source {source!r}"
        if np.isfinite(stored).all() and dtype == "float64":
            raise MergeError(
                f"tensor {chunk.tensor}: {where} holds {np.abs(stored).max():.4g}, and float32, in which merges compute, ends at "
                f"{LARGEST['float32']:.4g}"
            )
        raise MergeError(f"tensor {chunk.tensor}: {where} holds {what}: its training failed, or a file is damaged")
    return values


def rounded(name: str, values: Floats, dtype: str) -> np.ndarray:
    """Values rounded once to the type of the result.

    Raises:
        MergeError: they do not fit it.
    """
    size = largest(values)
    if not size <= LARGEST[dtype]:  # also catches NaN
        raise MergeError(
            f"tensor {name}: the merged values (up to {size:.4g}) do not fit {dtype} (at most "
            f"{LARGEST[dtype]:.4g}); choose a wider dtype or smaller weights"
        )
    return narrow(values, dtype)
