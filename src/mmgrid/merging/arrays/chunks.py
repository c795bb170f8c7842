"""Runs of consecutive elements, the unit of reading, computing and writing."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

# A run in float32 fills a core's second-level cache (1 MiB); shorter runs are slower, because Python's overhead grows.
CHUNK_ELEMENTS = 1 << 18
# The native loops use blocks that fit the first-level cache, so for the length of a run only Python's overhead counts.
NATIVE_ELEMENTS = 1 << 19


@dataclass(frozen=True)
class Chunk:
    """Elements [start, stop) of a tensor, in row-major order."""

    tensor: str
    start: int
    stop: int


def chunks_of(tensor: str, size: int, elements: int, unit: int = 1) -> Iterator[Chunk]:
    """Split the first `size` elements of a tensor into runs of about `elements`, in whole units of `unit` elements."""
    unit = max(unit, 1)
    step = max(elements // unit, 1) * unit
    for start in range(0, size, step):
        yield Chunk(tensor, start, min(start + step, size))


def row_of(shape: tuple[int, ...]) -> int:
    """The number of elements in a row, which runs along the last dimension."""
    return shape[-1] if shape else 1


def columns_of(shape: tuple[int, ...]) -> int:
    """The number of columns, which run along the first dimension; a vector is one."""
    return math.prod(shape[1:])
