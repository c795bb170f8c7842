"""Inner products of the tensors of a group of sources, gathered before anything is merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.exact_sums import block_products, exact_sum, in_blocks
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation
from mmgrid.merging.plan.plan import Piece


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
