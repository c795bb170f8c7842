"""Runs of consecutive elements, the unit of reading, computing and writing."""

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


def chunks_of(tensor: str, shape: tuple[int, ...], size: int, elements: int, *, whole_rows: bool) -> Iterator[Chunk]:
    """Split the first `size` elements of a tensor into runs of about `elements`, with `whole_rows` at the ends of rows."""
    row = shape[-1] if shape and whole_rows else 1
    step = max(1, elements // max(row, 1)) * max(row, 1)
    for start in range(0, size, step):
        yield Chunk(tensor, start, min(start + step, size))
