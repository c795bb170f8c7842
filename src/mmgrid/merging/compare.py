"""How models differ: norms, cosines, signs that conflict, weights that are equal; per tensor, layer, tower and in all.

With a base the numbers are those of the task vectors τ = θ − θ₀. Everything is read once, run by run. Sums are taken
in float64 over blocks of fixed places and added without error, so neither runs nor threads change a bit.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmgrid.merging.arrays.buffers import frame, take
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, Chunk, chunks_of
from mmgrid.merging.arrays.exact_sums import block_products, exact_sum, in_blocks
from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.arrays.names import OUTSIDE, layer_of, tower_of
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.engine.arithmetic import read_values
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.sources import open_source
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.plan.plan import BASE

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Pair:
    """Two models over some elements.

    Attributes:
        elements: how many.
        norms: L2 norms of the two models' weights, or of their task vectors.
        cosine: between the two; NaN where one is zero.
        distance: L2 norm of their difference.
        equal: share of the elements in which the two models are the same number.
        conflicts: share of the elements in which both are not zero and their signs differ.
        zeros: shares of the elements that are zero in each.
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
    """What is added up over some elements, for n models: squares of norms, inner products, counts.

    Attributes:
        elements: how many.
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

    def pair(self, one: int = 0, other: int = 1) -> Pair:
        """The numbers of two of the models."""
        n = max(self.elements, 1)
        norms = math.sqrt(self.products[one][one]), math.sqrt(self.products[other][other])
        length = norms[0] * norms[1]
        cosine = min(max(self.products[one][other] / length, -1.0), 1.0) if length else math.nan
        return Pair(
            elements=self.elements,
            norms=norms,
            cosine=cosine,
            distance=math.sqrt(self.squares[one][other]),
            equal=self.equal[one][other] / n,
            conflicts=self.conflicts[one][other] / n,
            zeros=(self.zeros[one] / n, self.zeros[other] / n),
        )


@dataclass(frozen=True)
class Difference:
    """How models differ.

    Attributes:
        models: their names, in the order of `Sums`.
        of_task_vectors: whether a base was subtracted.
        whole: over all tensors of floating-point numbers that all models (and the base) have in one shape.
        towers: tower → its sums.
        layers: tower, layer (or `outside`) → its sums.
        tensors: tensor → its sums.
        whole_numbers: tensor of whole numbers → whether all models agree on it.
        left_out: tensor → why it could not be compared.
    """

    models: tuple[str, ...]
    of_task_vectors: bool
    whole: Sums
    towers: Mapping[str, Sums]
    layers: Mapping[tuple[str, str], Sums]
    tensors: Mapping[str, Sums]
    whole_numbers: Mapping[str, bool] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def diff(
    a: str | Path | Tensors,
    b: str | Path | Tensors,
    *more: str | Path | Tensors,
    base: str | Path | Tensors | None = None,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Difference:
    """Compare two models, or several, each with each.

    Args:
        a, b, more: folders (or adapters, or safetensors files), or tensors that are open already.
        base: θ₀; the numbers are then those of task vectors.
        names: what the models are called. Default: a, b, c, …
        workers: threads; no bit depends on it. Default: one per core.
        progress: called after each tensor with bytes read, bytes in all, and the tensor's name.

    Raises:
        MergeError: a model cannot be read, holds NaN or an infinity, or nothing can be compared.
    """
    given = (a, b, *more)
    called = tuple(names) if names is not None else tuple(_letters(len(given)))
    if len(called) != len(given) or len(set(called)) < len(called):
        raise MergeError(f"names: {len(given)} models need as many different names, not {', '.join(called)}")
    with contextlib.ExitStack() as stack:

        def opened(model: str | Path | Tensors) -> Tensors:
            if isinstance(model, str | Path):
                below = Path(base) if isinstance(base, str | Path) else None
                return stack.enter_context(open_source(Path(model), base=below))
            return model

        models = {name: opened(model) for name, model in zip(called, given, strict=True)}
        return _difference(models, None if base is None else opened(base), workers or default_workers(), progress)


def _difference(
    models: Mapping[str, Tensors], base: Tensors | None, workers: int, progress: Progress | None
) -> Difference:
    floats, whole, left_out = _sorted_out(models, base)
    if not floats and not whole:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise MergeError(f"nothing can be compared: the models have no tensor in common ({why})")
    first = next(iter(models.values()))
    sizes = {name: first.info(name).size for name in floats}
    gathering = _Gathering(models, base, sizes, progress)
    chunks = [chunk for name in floats for chunk in chunks_of(name, (), sizes[name], CHUNK_ELEMENTS, whole_rows=False)]
    for_each(chunks, gathering.take, workers)
    n = len(models)
    tensors = {name: gathering.sums.get(name) or _empty(n) for name in floats}
    towers: dict[str, list[Sums]] = {}
    layers: dict[tuple[str, str], list[Sums]] = {}
    for name, sums in tensors.items():
        layer = layer_of(name)
        towers.setdefault(tower_of(name), []).append(sums)
        layers.setdefault((tower_of(name), OUTSIDE if layer is None else str(layer)), []).append(sums)
    in_order = sorted(layers, key=lambda key: (key[0], key[1] == OUTSIDE, key[1].zfill(6)))
    return Difference(
        models=tuple(models),
        of_task_vectors=base is not None,
        whole=_added(list(tensors.values()), n),
        towers={tower: _added(towers[tower], n) for tower in sorted(towers)},
        layers={key: _added(layers[key], n) for key in in_order},
        tensors=tensors,
        whole_numbers={name: _agree(models, name) for name in whole},
        left_out=left_out,
    )


def _sorted_out(models: Mapping[str, Tensors], base: Tensors | None) -> tuple[list[str], list[str], dict[str, str]]:
    """Tensors of numbers with a point, of whole numbers, and those that cannot be compared with the reason."""
    floats, whole, left_out = [], [], {}
    for name in sorted({name for tensors in models.values() for name in tensors}):
        lacking = [model for model, tensors in models.items() if name not in tensors]
        infos = {model: tensors.info(name) for model, tensors in models.items() if name in tensors}
        if base is not None and is_float(next(iter(infos.values())).dtype):
            lacking += [] if name in base else [BASE]
            infos |= {BASE: base.info(name)} if name in base else {}
        if lacking:
            left_out[name] = f"{' and '.join(lacking)} lack{'s' * (len(lacking) == 1)} it"
        elif len({info.shape for info in infos.values()}) > 1:
            left_out[name] = "shapes differ: " + ", ".join(f"{model} {list(i.shape)}" for model, i in infos.items())
        elif len({is_float(info.dtype) for info in infos.values()}) > 1:
            left_out[name] = "types differ: " + ", ".join(f"{model} {info.dtype}" for model, info in infos.items())
        else:
            (floats if is_float(infos[next(iter(models))].dtype) else whole).append(name)
    return floats, whole, left_out


class _Blocks(NamedTuple):
    """Of n models, block by block: L1 norms, float64 [blocks, n]; inner products of all pairs and squared distances,
    float64 [blocks, n, n] each."""

    absolutes: np.ndarray
    products: np.ndarray
    squares: np.ndarray


class _Gathering:
    """The sums of tensors while their runs come in, in any order and from any thread.

    Sums of blocks are held until their tensor is complete; then they are added, once and exactly.
    """

    def __init__(
        self, models: Mapping[str, Tensors], base: Tensors | None, sizes: Mapping[str, int], progress: Progress | None
    ) -> None:
        self.models, self.base, self.sizes, self.progress = models, base, sizes, progress
        self.sums: dict[str, Sums] = {}
        self._blocks: dict[str, list[_Blocks]] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._seen: dict[str, int] = {}
        self._adding = threading.Lock()
        all_read = [*models.values(), *([base] if base is not None else [])]
        self._bytes = {name: sum(tensors.info(name).bytes for tensors in all_read) for name in sizes}
        self._done = 0

    def take(self, chunk: Chunk) -> None:
        """Read one run of all models, and add what it gives."""
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
            self._add(chunk, _blocks(values), counts)

    def _add(self, chunk: Chunk, blocks: _Blocks, counts: np.ndarray) -> None:
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


def _blocks(values: Sequence[np.ndarray]) -> _Blocks:
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
    return _Blocks(absolutes, block_products(blocked), squares)


def _sums(size: int, blocks: Sequence[_Blocks], counts: np.ndarray) -> Sums:
    absolutes = exact_sum([block.absolutes for block in blocks])
    products = _numbers(exact_sum([block.products for block in blocks]))
    squares = _numbers(exact_sum([block.squares for block in blocks]))
    equal = counts[0] + counts[0].T + size * np.eye(len(counts[0]), dtype=np.int64)
    conflicts = np.triu(counts[1], 1)
    return Sums(
        elements=size,
        absolutes=tuple(float(number) for number in absolutes),
        products=products,
        squares=tuple(tuple(squares[min(i, j)][max(i, j)] for j in range(len(equal))) for i in range(len(equal))),
        equal=_whole(equal),
        conflicts=_whole(conflicts + conflicts.T),
        zeros=tuple(int(number) for number in np.diag(counts[1])),
    )


def _numbers(sums: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(number) for number in row) for row in sums)


def _whole(counts: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(number) for number in row) for row in counts)


def _added(parts: Sequence[Sums], n: int) -> Sums:
    if not parts:
        return _empty(n)

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


def _empty(n: int) -> Sums:
    zeros, none = tuple((0.0,) * n for _ in range(n)), tuple((0,) * n for _ in range(n))
    return Sums(0, (0.0,) * n, zeros, zeros, none, none, (0,) * n)


def _agree(models: Mapping[str, Tensors], name: str) -> bool:
    first, *others = (tensors.read(name, 0, tensors.info(name).size) for tensors in models.values())
    return all(np.array_equal(first, other) for other in others)


def _letters(n: int) -> list[str]:
    return [chr(ord("a") + number) if n <= 26 else f"model{number}" for number in range(n)]
