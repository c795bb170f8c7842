"""Runs of elements: what is read, computed and written at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# A run in float32 fills a core's second-level cache (1 MiB); shorter ones were slower, for Python's share grows.
CHUNK_ELEMENTS = 1 << 18
# Compiled loops hold blocks in the first-level cache, whatever the run; Python's share is all that counts.
COMPILED_ELEMENTS = 1 << 19


@dataclass(frozen=True)
class Chunk:
    """Elements [start, stop) of a tensor, in row-major order."""

    tensor: str
    start: int
    stop: int


def chunks_of(tensor: str, shape: tuple[int, ...], size: int, elements: int, *, whole_rows: bool) -> Iterator[Chunk]:
    """Cut the first `size` elements of a tensor into runs of about `elements`, at the ends of rows if need be."""
    row = shape[-1] if shape and whole_rows else 1
    step = max(1, elements // max(row, 1)) * max(row, 1)
    for start in range(0, size, step):
        yield Chunk(tensor, start, min(start + step, size))
