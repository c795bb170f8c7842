"""Where the elements of a token table are: in the part, in the shared model, or with the domain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import STORAGE
from mmgrid.merging.models.family.file import RowsEntry
from mmgrid.merging.models.tensors import Tensors

Of = Literal["start", "at", "base"]


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a tensor that are in one place.

    Attributes:
        length: their number.
        how: as in `RowsEntry`.
        place: the first of them: for "part", among all elements that the part has; for "own" among those stored with the
            domain; for "shared" in the shared model's tensor.
    """

    length: int
    how: str
    place: int


@dataclass(frozen=True)
class RowMap:
    """The rows of one token table, as its domain lists them, and the elements of a row."""

    rows: tuple[RowsEntry, ...]
    width: int

    @classmethod
    def of(cls, rows: Sequence[RowsEntry], shape: Sequence[int]) -> RowMap:
        return cls(tuple(rows), math.prod(shape[1:]))

    def count(self, how: str) -> int:
        """The number of rows in one kind of place."""
        return sum(rows.stop - rows.start for rows in self.rows if rows.how == how)

    def reach(self, of: Literal["at", "base"]) -> int:
        """How many rows another tensor must have for all that is read from it."""
        hows = ("part", "shared") if of == "at" else ("part",)
        return max((getattr(rows, of) + rows.stop - rows.start for rows in self.rows if rows.how in hows), default=0)

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The places of elements [start, stop), in order."""
        before = {"part": 0, "own": 0}
        for rows in self.rows:
            first, last = rows.start * self.width, rows.stop * self.width
            low, high = max(first, start), min(last, stop)
            if low < high:
                begin = rows.at * self.width if rows.how == "shared" else before[rows.how]
                yield Piece(high - low, rows.how, begin + low - first)
            if rows.how in before:
                before[rows.how] += last - first

    def spans(self, start: int, stop: int, of: Of, how: str = "part") -> Iterator[tuple[int, int]]:
        """Where elements [start, stop) of the part are: as elements [first, last) of another tensor, in order.

        Args:
            of: "start": the domain's whole table; "at": the shared model's; "base": the base's.
            how: "own" for the elements that are stored with the domain, instead of those of the part.
        """
        before = 0
        for rows in self.rows:
            if rows.how != how:
                continue
            size = (rows.stop - rows.start) * self.width
            low, high = max(before, start), min(before + size, stop)
            if low < high:
                begin = getattr(rows, of) * self.width - before
                yield begin + low, begin + high
            before += size


def read_spans(source: Tensors, name: str, spans: Iterable[tuple[int, int]]) -> np.ndarray:
    """Elements of several places of a tensor, one after the other."""
    spans = list(spans)
    if len(spans) == 1:
        return source.read(name, *spans[0])
    found = take(sum(last - first for first, last in spans), STORAGE[source.info(name).dtype])
    done = 0
    for first, last in spans:
        found[done : done + last - first] = source.read(name, first, last)
        done += last - first
    return found
