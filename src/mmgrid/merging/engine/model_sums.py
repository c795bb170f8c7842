"""Sums over the elements of several models, from which norms, cosines and shares of equal elements follow.

Sums are taken in float64 over blocks of fixed size and then added exactly, so neither the length of the runs nor the
number of threads changes a bit.
"""

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmgrid.merging.arrays.buffers import frame, take
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.exact_sums import block_products, exact_sum, in_blocks
from mmgrid.merging.engine.arithmetic import read_values
from mmgrid.merging.engine.progress import MergeProgress
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.plan.plan import BASE


@dataclass(frozen=True)
class ModelPair:
    """The comparison of two models over a set of elements.

    Attributes:
        elements: number of elements.
        norms: L2 norms of the two models' weights, or of their task vectors.
        cosine: the cosine between them; NaN if one of them is zero.
        distance: L2 norm of their difference.
        equal: share of the elements that are equal in both models.
        conflicts: share of the elements that are nonzero in both and differ in sign.
        zeros: share of zero elements in each model.
    """

    elements: int
    norms: tuple[float, float]
    cosine: float
    distance: float
    equal: float
    conflicts: float
    zeros: tuple[float, float]


@dataclass(frozen=True)
class Sums:
    """Sums over a set of elements, for n models: norms, inner products, counts.

    Attributes:
        elements: number of elements.
        absolutes: L1 norms, n.
        products: inner products, n × n.
        squares: squared L2 norms of the differences, n × n.
        equal, conflicts: counts, n × n.
        zeros: counts, n.
    """

    elements: int
    absolutes: tuple[float, ...]
    products: tuple[tuple[float, ...], ...]
    squares: tuple[tuple[float, ...], ...]
    equal: tuple[tuple[int, ...], ...]
    conflicts: tuple[tuple[int, ...], ...]
    zeros: tuple[int, ...]

    def pair(self, one: int = 0, other: int = 1) -> ModelPair:
        """The comparison of two of the models, given by their positions."""
        n = max(self.elements, 1)
        norms = math.sqrt(self.products[one][one]), math.sqrt(self.products[other][other])
        length = norms[0] * norms[1]
        cosine = min(max(self.products[one][other] / length, -1.0), 1.0) if length else math.nan
        return ModelPair(
            elements=self.elements,
            norms=norms,
            cosine=cosine,
            distance=math.sqrt(self.squares[one][other]),
            equal=self.equal[one][other] / n,
            conflicts=self.conflicts[one][other] / n,
            zeros=(self.zeros[one] / n, self.zeros[other] / n),
        )


class _BlockSums(NamedTuple):
    """Sums of n models in each block: L1 norms, float64 [blocks, n]; inner products and squared distances of all pairs,
    float64 [blocks, n, n] each."""

    absolutes: np.ndarray
    products: np.ndarray
    squares: np.ndarray


class SumCollector:
    """Collects the sums of tensors from their runs, in any order and from any thread.

    Block sums are kept until their tensor is complete, and are then added once, exactly.
    """

    def __init__(
        self,
        models: Mapping[str, Tensors],
        base: Tensors | None,
        sizes: Mapping[str, int],
        progress: MergeProgress | None,
    ) -> None:
        self.models, self.base, self.sizes, self.progress = models, base, sizes, progress
        self.sums: dict[str, Sums] = {}
        self._blocks: dict[str, list[_BlockSums]] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._seen: dict[str, int] = {}
        self._adding = threading.Lock()
        all_read = [*models.values(), *([base] if base is not None else [])]
        self._bytes = {name: sum(tensors.info(name).bytes for tensors in all_read) for name in sizes}
        self._done = 0

    def take(self, chunk: Chunk) -> None:
        """Read one run of all models and add its sums."""
        with frame():
            values = [read_values(tensors, name, chunk, 0) for name, tensors in self.models.items()]
            n = len(values)
            counts = np.zeros((2, n, n), np.int64)  # equal, conflicts; zeros on the diagonal of the second
            for i, j in itertools.combinations(range(n), 2):
                counts[0, i, j] = np.count_nonzero(values[i] == values[j])
            if self.base is not None:
                below = read_values(self.base, BASE, chunk, 0)
                values = [np.subtract(each, below, out=take(len(each))) for each in values]
            nonzero = [np.not_equal(each, 0, out=take(len(each), np.bool_)) for each in values]
            negative = [np.signbit(each, out=take(len(each), np.bool_)) for each in values]
            for i, j in itertools.combinations(range(n), 2):
                conflict = np.not_equal(negative[i], negative[j], out=take(len(values[i]), np.bool_))
                conflict &= nonzero[i]
                conflict &= nonzero[j]
                counts[1, i, j] = np.count_nonzero(conflict)
            for i in range(n):
                counts[1, i, i] = len(values[i]) - np.count_nonzero(nonzero[i])
            self._add(chunk, _block_sums(values), counts)

    def _add(self, chunk: Chunk, blocks: _BlockSums, counts: np.ndarray) -> None:
        name = chunk.tensor
        with self._adding:
            self._blocks.setdefault(name, []).append(blocks)
            self._counts[name] = self._counts[name] + counts if name in self._counts else counts
            self._seen[name] = self._seen.get(name, 0) + chunk.stop - chunk.start
            if self._seen[name] < self.sizes[name]:
                return
            own, total = self._blocks.pop(name), self._counts.pop(name)
            self._done += self._bytes[name]
            self.sums[name] = _sums(self.sizes[name], own, total)
            if self.progress is not None:
                self.progress(self._done, sum(self._bytes.values()), name)


def _block_sums(values: Sequence[np.ndarray]) -> _BlockSums:
    blocked = in_blocks(values)
    n, *shape = blocked.shape
    absolutes, squares = np.empty((shape[0], n)), np.zeros((shape[0], n, n))
    step = take(shape[0] * shape[1], np.float64).reshape(shape)
    for i in range(n):
        np.abs(blocked[i], out=step)
        absolutes[:, i] = step.sum(axis=1)
    for i, j in itertools.combinations(range(n), 2):
        np.subtract(blocked[i], blocked[j], out=step)
        squares[:, i, j] = np.einsum("be,be->b", step, step)
    return _BlockSums(absolutes, block_products(blocked), squares)


def _sums(size: int, blocks: Sequence[_BlockSums], counts: np.ndarray) -> Sums:
    absolutes = exact_sum([block.absolutes for block in blocks])
    products = _floats(exact_sum([block.products for block in blocks]))
    squares = _floats(exact_sum([block.squares for block in blocks]))
    equal = counts[0] + counts[0].T + size * np.eye(len(counts[0]), dtype=np.int64)
    conflicts = np.triu(counts[1], 1)
    return Sums(
        elements=size,
        absolutes=tuple(float(number) for number in absolutes),
        products=products,
        squares=tuple(tuple(squares[min(i, j)][max(i, j)] for j in range(len(equal))) for i in range(len(equal))),
        equal=_integers(equal),
        conflicts=_integers(conflicts + conflicts.T),
        zeros=tuple(int(number) for number in np.diag(counts[1])),
    )


def _floats(sums: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(number) for number in row) for row in sums)


def _integers(counts: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(number) for number in row) for row in counts)


def added(parts: Sequence[Sums], n: int) -> Sums:
    """The sums over all parts, for n models."""
    if not parts:
        return no_sums(n)

    def each(field_of: Callable[[Sums], Sequence[Sequence[float]]]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(math.fsum(field_of(part)[i][j] for part in parts) for j in range(n)) for i in range(n))

    def count(field_of: Callable[[Sums], Sequence[Sequence[int]]]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sum(field_of(part)[i][j] for part in parts) for j in range(n)) for i in range(n))

    return Sums(
        elements=sum(part.elements for part in parts),
        absolutes=tuple(math.fsum(part.absolutes[i] for part in parts) for i in range(n)),
        products=each(lambda part: part.products),
        squares=each(lambda part: part.squares),
        equal=count(lambda part: part.equal),
        conflicts=count(lambda part: part.conflicts),
        zeros=tuple(sum(part.zeros[i] for part in parts) for i in range(n)),
    )


def no_sums(n: int) -> Sums:
    """The sums of n models over no elements."""
    zeros, none = tuple((0.0,) * n for _ in range(n)), tuple((0,) * n for _ in range(n))
    return Sums(0, (0.0,) * n, zeros, zeros, none, none, (0,) * n)
