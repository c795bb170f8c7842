"""Sums that depend neither on the length of runs nor on threads: float64 sums of fixed blocks, added exactly.

Within a block the order of an inner product is fixed as well, so that it depends neither on the processor nor on
numpy's version, and a native loop can add in the same order.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import take

DOT_BLOCK = 8192  # elements per block; runs consist of whole blocks
COLUMN_BLOCK = 1 << 16  # elements of the blocks of rows in which inner products of columns are taken
_LANES = 64  # sums of a block that are added up side by side


def lanes_of(block: int) -> int:
    """The number of sums that an inner product over `block` elements (a power of two) consists of."""
    return min(_LANES, block)


def in_blocks(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors of equal length as float64 [n, blocks, DOT_BLOCK], padded with zeros."""
    size, n = len(vectors[0]), len(vectors)
    n_blocks = -(-size // DOT_BLOCK)
    wide = take(n * n_blocks * DOT_BLOCK, np.float64).reshape(n, -1)
    for row, vector in zip(wide, vectors, strict=True):
        row[:size] = vector
        row[size:] = 0
    return wide.reshape(n, n_blocks, DOT_BLOCK)


def block_products(blocked: np.ndarray) -> np.ndarray:
    """Inner products of all pairs in each block: float64 [blocks, n, n].

    Lane l adds the products of elements l, l + 64, l + 128, … in this order; then the upper half of the lanes is added
    to the lower one, until one is left. A product of two float32 is exact in float64.
    """
    n, n_blocks, size = blocked.shape
    products, each = np.empty((n_blocks, n, n)), take(n_blocks * size, np.float64).reshape(n_blocks, size)
    for i, j in itertools.combinations_with_replacement(range(n), 2):
        np.multiply(blocked[i], blocked[j], out=each)
        lanes = np.add.reduce(each.reshape(n_blocks, -1, lanes_of(size)), axis=1, initial=0.0)
        while (half := lanes.shape[1] // 2) > 0:
            lanes = lanes[:, :half] + lanes[:, half:]
        products[:, i, j] = products[:, j, i] = lanes[:, 0]
    return products


def gram_of_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The inner products of all pairs of n matrices [r, c] in each row: float64 [r, n, n]."""
    return _pairs(rows, lambda product: product.sum(axis=1))


def column_products(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The inner products of all pairs of n matrices [r, c] in each column, for blocks of rows: float64 [blocks, c, n, n].

    The last block may be shorter. A run of rows has to begin with a block.
    """
    step = rows_of_block(rows[0].shape[1])
    blocks = [[matrix[start : start + step] for matrix in rows] for start in range(0, len(rows[0]), step)]
    return np.stack([_pairs(block, lambda product: product.sum(axis=0)) for block in blocks])


def rows_of_block(columns: int) -> int:
    """The number of rows whose products are added before the exact sum, for rows of so many columns."""
    return max(COLUMN_BLOCK // max(columns, 1), 1)


def _pairs(matrices: Sequence[np.ndarray], add: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """float64 [k, n, n], with `add` giving k sums of the products of two matrices."""
    n = len(matrices)
    wide = [matrix.astype(np.float64) for matrix in matrices]
    found = {pair: add(wide[pair[0]] * wide[pair[1]]) for pair in itertools.combinations_with_replacement(range(n), 2)}
    products = np.empty((len(found[0, 0]), n, n))
    for (i, j), sums in found.items():
        products[:, i, j] = products[:, j, i] = sums
    return products


def exact_sum(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The sum over the blocks of all parts, float64 [blocks, ...] each, rounded once and in any order: [...]."""
    blocks = np.concatenate(parts)
    columns = blocks.reshape(len(blocks), -1).T
    return np.array([math.fsum(column) for column in columns]).reshape(blocks.shape[1:])
