"""The arithmetic of a merge, run by run: read, widen, subtract the base, run the stages, combine, add, round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.floats import LARGEST, Floats, all_finite, largest, narrow, widen
from mmgrid.merging.arrays.names import depths
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import weighted_sum
from mmgrid.merging.methods.stages import Cut, Place
from mmgrid.merging.models.tensors import TensorInfo, Tensors
from mmgrid.merging.plan.plan import BASE, Part, Plan
from mmgrid.merging.plan.program import Job, Program


class Computation:
    """What is computed of a job under a plan. Holds no tensor; threads may share it."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.job = job
        self.plan = plan
        self.names = list(job.sources)
        self.depth = depths(plan.merged)

    def vectors(
        self,
        chunk: Chunk,
        part: Part,
        cuts: Mapping[tuple[int, int], Sequence[Cut]],
        n_stages: int | None = None,
        *,
        check: bool = True,
    ) -> tuple[list[Floats], Floats | None]:
        """What the method sees of a run: each source's θ or τ, the first `n_stages` stages done; and the base.

        `cuts[source number, stage number]` are those that fall on this run. Values that are not finite are refused
        if `check` is on; who reads a run before it is merged can leave that to the merge.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # `rounded` refuses what is too large
            return self._vectors(chunk, part, cuts, n_stages, check)

    def _vectors(
        self, chunk: Chunk, part: Part, cuts: Mapping[tuple[int, int], Sequence[Cut]], n_stages: int | None, check: bool
    ) -> tuple[list[Floats], Floats | None]:
        program = self.job.program(chunk.tensor)
        tensors = [
            read_values(source, name, chunk, part.sources[name] - part.start, check=check)
            for name, source in self.job.sources.items()
        ]
        if not program.on_deltas:
            return tensors, None
        assert program.base is not None
        if part.base is None:
            raise MergeError(
                f"tensor {chunk.tensor}: the base lacks rows that are to be merged; keep, append or drop their block"
            )
        base = read_values(program.base, BASE, chunk, part.base - part.start, check=check)
        for number, values in enumerate(tensors):
            delta = np.subtract(values, base, out=take(len(values)))  # `values` may be the source's own memory
            tensors[number] = self._staged(program, delta, number, chunk, cuts, n_stages)
        return tensors, base

    def _staged(
        self,
        program: Program,
        delta: Floats,
        number: int,
        chunk: Chunk,
        cuts: Mapping[tuple[int, int], Sequence[Cut]],
        n_stages: int | None,
    ) -> Floats:
        for position, stage in enumerate(program.stages[number][:n_stages]):
            place = self.place(chunk, number, position)
            delta = stage.apply(delta, place, cuts.get((number, position), ()))
        return delta

    def place(self, chunk: Chunk, source: int, stage: int) -> Place:
        shape = self.plan.merged[chunk.tensor].shape
        name = self.names[source]
        return Place(name, chunk.tensor, chunk.start, shape, self.depth[chunk.tensor], self.job.seed, stage)

    def results(
        self,
        chunk: Chunk,
        part: Part,
        cuts: Mapping[tuple[int, int], Sequence[Cut]],
        programs: Sequence[tuple[Program, Sequence[float] | None]],
    ) -> tuple[list[np.ndarray], list[int]]:
        """A run as each program makes it, as `STORAGE` holds it, and how many elements of each vector are not zero.

        The programs differ in weights and scale alone; with each the coefficients of a method that takes a gram. The
        numbers mean nothing of methods without stages.
        """
        vectors, base = self.vectors(chunk, part, cuts)
        has_stages = bool(programs[0][0].steps)
        kept = [int(np.count_nonzero(vector)) if has_stages else 0 for vector in vectors]
        return [self.result(chunk, vectors, base, program, factors) for program, factors in programs], kept

    def result(
        self,
        chunk: Chunk,
        vectors: Sequence[Floats],
        base: Floats | None,
        program: Program,
        coefficients: Sequence[float] | None,
    ) -> np.ndarray:
        """A run of the result, rounded, as `STORAGE` holds it."""
        info = self.plan.merged[chunk.tensor]
        scale = program.scale_at(self.depth[chunk.tensor])
        if base is not None and scale == 0:  # not base + 0 · Δ, which turns -0.0 into 0.0
            return rounded(chunk.tensor, base, info.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            combined = combine(program, vectors, coefficients, info)
            if base is not None:
                if scale != 1.0:
                    np.multiply(combined, np.float32(scale), out=combined)
                np.add(base, combined, out=combined)
        return rounded(chunk.tensor, combined, info.dtype)

    def copied(self, chunk: Chunk, part: Part) -> np.ndarray:
        """A run that is taken as it is from the only source of its part."""
        ((name, start),) = part.sources.items()
        values = read_values(self.job.sources[name], name, chunk, start - part.start)
        return rounded(chunk.tensor, values, self.plan.merged[chunk.tensor].dtype)

    def kept(self, name: str) -> np.ndarray:
        """A tensor of whole numbers, on which all sources must agree."""
        size = self.plan.kept[name].size
        (first_name, first), *others = (
            (source, tensors.read(name, 0, size)) for source, tensors in self.job.sources.items()
        )
        for other_name, other in others:
            if not np.array_equal(first, other):
                raise MergeError(
                    f"tensor {name}: whole numbers cannot be averaged, and {first_name!r} and {other_name!r} "
                    "differ in it"
                )
        return first


def combine(
    program: Program, vectors: Sequence[Floats], coefficients: Sequence[float] | None, info: TensorInfo
) -> Floats:
    """The method's answer for a run (or, for methods that see whole tensors, a tensor), as a new flat array."""
    if program.method.takes_gram:
        assert coefficients is not None
        return weighted_sum(vectors, coefficients)
    if program.method.whole_tensors:
        shape = (-1, *info.shape[1:]) if info.shape else ()  # a block of token rows has fewer than the tensor
        shaped = [tensor.reshape(shape) for tensor in vectors]
        return np.array(program.method.combine(shaped, program.weights, program.options), np.float32).reshape(-1)
    return program.method.combine(vectors, program.weights, program.options)


def read_values(tensors: Tensors, source: str, chunk: Chunk, offset: int, *, check: bool = True) -> Floats:
    """A run of a source in float32; `offset` is added to the run's place in the result.

    Raises:
        MergeError: it holds NaN or an infinity, and `check` is on.
    """
    dtype = tensors.info(chunk.tensor).dtype
    stored = tensors.read(chunk.tensor, chunk.start + offset, chunk.stop + offset)
    values = widen(stored, dtype)
    if check and not all_finite(stored, values, dtype):
        what = "NaN" if np.isnan(values).any() else "an infinity"
        where = "the base" if source == BASE else f"source {source!r}"
        raise MergeError(f"tensor {chunk.tensor}: {where} holds {what}: its training failed, or a file is damaged")
    return values


def rounded(name: str, values: Floats, dtype: str) -> np.ndarray:
    """Values rounded to the type of the result, once.

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
