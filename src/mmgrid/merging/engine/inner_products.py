"""Inner products of each tensor's sources, computed before anything is merged."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import Chunk, columns_of
from mmgrid.merging.arrays.exact_sums import block_products, column_products, exact_sum, in_blocks
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation
from mmgrid.merging.engine.compiled_runs import CompiledRuns
from mmgrid.merging.plan.plan import PlannedChunk
from mmgrid.merging.plan.program import AppliedMethod


def inner_products_of(
    computation: Computation, compiled: CompiledRuns, pieces: Sequence[PlannedChunk], workers: int
) -> dict[str, np.ndarray]:
    """The Gram matrix, float64 [n, n], of each tensor's n sources, for methods that compute coefficients from it.

    For methods that take the inner products of columns [columns, n, n]. Those of rows are computed with each run.
    """
    wanted = [piece for piece in pieces if needs_inner_products(computation.program.applied(piece[0].tensor))]
    partial: dict[Chunk, np.ndarray] = {}

    def work(piece: PlannedChunk) -> None:
        with frame():
            partial[piece[0]] = _products(computation, compiled, piece)

    for_each(wanted, work, workers)
    by_tensor: dict[str, list[np.ndarray]] = {}
    for chunk, _ in wanted:
        by_tensor.setdefault(chunk.tensor, []).append(partial[chunk])
    return {name: exact_sum(blocks) for name, blocks in by_tensor.items()}


def needs_inner_products(applied: AppliedMethod) -> bool:
    """Whether a method takes inner products that a pass before the merge has to compute."""
    is_of_rows = applied.method.gram_along(applied.options) == "rows"
    return applied.method.takes_gram and applied.method.needs == "tensor" and not is_of_rows


def no_inner_products(n: int) -> np.ndarray:
    """For methods whose coefficients do not depend on the inner products of n sources."""
    return np.zeros((n, n))


def _products(computation: Computation, compiled: CompiledRuns, piece: PlannedChunk) -> np.ndarray:
    """The inner products of a run's blocks: [blocks, n, n] or [blocks, columns, n, n]."""
    name = piece[0].tensor
    applied = computation.program.applied(name)
    if applied.method.gram_along(applied.options) == "columns":
        vectors, _ = computation.vectors(*piece, {})
        columns = columns_of(computation.plan.merged[name].shape)
        return column_products([vector.reshape(-1, columns) for vector in vectors])
    done = compiled.products(*piece)
    if done is not None:
        return done
    vectors, _ = computation.vectors(*piece, {})
    return block_products(in_blocks(vectors))
