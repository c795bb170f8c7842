"""Sums that depend neither on the length of runs nor on threads: float64 sums of fixed blocks, added exactly."""

import math
from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import take

DOT_BLOCK = 8192  # elements per block; runs consist of whole blocks


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
    """Inner products of all pairs in each block: float64 [blocks, n, n]."""
    return np.einsum("ibe,jbe->bij", blocked, blocked)


def exact_sum(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The sum over the blocks of all parts, float64 [blocks, ...] each, rounded once and in any order: [...]."""
    blocks = np.concatenate(parts)
    columns = blocks.reshape(len(blocks), -1).T
    return np.array([math.fsum(column) for column in columns]).reshape(blocks.shape[1:])
