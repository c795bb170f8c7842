"""Inner products of each tensor's sources, computed before anything is merged."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.exact_sums import block_products, exact_sum, in_blocks
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation
from mmgrid.merging.engine.compiled_runs import CompiledRuns
from mmgrid.merging.plan.plan import PlannedChunk


def inner_products_of(
    computation: Computation, compiled: CompiledRuns, pieces: Sequence[PlannedChunk], workers: int
) -> dict[str, np.ndarray]:
    """The Gram matrix, float64 [n, n], of each tensor's n sources, for methods that compute coefficients from it."""
    wanted = [
        piece
        for piece in pieces
        if (method := computation.program.applied(piece[0].tensor).method).takes_gram and method.needs == "tensor"
    ]
    partial: dict[Chunk, np.ndarray] = {}

    def work(piece: PlannedChunk) -> None:
        with frame():
            products = compiled.products(*piece)
            if products is None:
                vectors, _ = computation.vectors(*piece, {})
                products = block_products(in_blocks(vectors))
            partial[piece[0]] = products

    for_each(wanted, work, workers)
    by_tensor: dict[str, list[np.ndarray]] = {}
    for chunk, _ in wanted:
        by_tensor.setdefault(chunk.tensor, []).append(partial[chunk])
    return {name: exact_sum(blocks) for name, blocks in by_tensor.items()}
