"""How deeply the columns of a parquet or Arrow file are nested, told before a library reads the file: those that call
themselves for each level end the whole process at some thousand levels.

Only what is needed is read of the two formats: https://github.com/apache/parquet-format (Thrift's compact protocol) and
https://arrow.apache.org/docs/format/Columnar.html (FlatBuffers).
"""

import os
from collections.abc import Iterator
from pathlib import Path

from mmgrid.data.readers.flat_buffers import BREAKS, at, field, tables

MOST_LEVELS = 300
_MOST_LOOKS = 1_000_000  # fields of FlatBuffers may be shared, so that few bytes hold any number of them


def is_too_deep(path: Path, kind: str) -> bool:
    """Whether the columns of a file (parquet or arrow) are nested more than `MOST_LEVELS` deep, or without end.

    False for a file that is damaged, too. Raises OSError if it cannot be read.
    """
    try:
        return _parquet(path) if kind == "parquet" else _arrow(path)
    except BREAKS:  # of a file that its reader then refuses
        return False


def _parquet(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        footer = _Compact(file.read(min(length, size)))
    for number, kind in footer.fields():
        if number == 2:
            return _children_too_deep(footer)
        footer.skip(kind)
    return False


def _children_too_deep(footer: "_Compact") -> bool:
    """Whether the elements of the schema, each of which says how many of the next ones lie in it, are too deep."""
    open_levels: list[int] = []  # how many elements are still to come in each
    for _ in range(footer.length()):
        children = 0
        for number, kind in footer.fields():
            if number == 5:
                children = footer.number()
            else:
                footer.skip(kind)
        while open_levels and not open_levels[-1]:
            open_levels.pop()
        if open_levels:
            open_levels[-1] -= 1
        if children > 0:
            open_levels.append(children)
        if len(open_levels) > MOST_LEVELS:
            return True
    return False


class _Compact:
    """Values of Thrift's compact protocol, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; the caller reads or skips its value."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self.number()
            yield number, head & 15

    def skip(self, kind: int, levels: int = 16) -> None:
        if not levels:
            raise ValueError("nested too deeply")
        if kind == 3:
            self._pass(1)
        elif kind in (4, 5, 6):
            self.number()
        elif kind == 7:
            self._pass(8)
        elif kind == 8:
            self._pass(self._natural())
        elif kind in (9, 10):
            count, inner = self.length_and_type()
            for _ in range(count):  # each takes a byte at least
                self.skip(3 if inner in (1, 2) else inner, levels - 1)
        elif kind == 12:
            for _, inner in self.fields():
                self.skip(inner, levels - 1)
        elif kind not in (1, 2):
            raise ValueError(kind)

    def number(self) -> int:
        found = self._natural()
        return (found >> 1) ^ -(found & 1)

    def length(self) -> int:
        return self.length_and_type()[0]

    def length_and_type(self) -> tuple[int, int]:
        head = self._byte()
        return (self._natural() if head >> 4 == 15 else head >> 4), head & 15

    def _natural(self) -> int:
        found = shift = 0
        while (byte := self._byte()) & 128:
            found |= (byte & 127) << shift
            shift += 7
        return found | byte << shift

    def _pass(self, size: int) -> None:
        self._place += size
        if self._place > len(self._data):
            raise IndexError("beyond the end")

    def _byte(self) -> int:
        byte = self._data[self._place]
        self._place += 1
        return byte


def _arrow(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(6) == b"ARROW1":
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 10))
            length = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 10 - length))
            table, of_schema = file.read(min(length, size)), 1
        else:
            file.seek(0)
            start = file.read(8)
            skipped = 4 if start[:4] == b"\xff" * 4 else 0  # older files have no such sign
            file.seek(skipped + 4)
            table, of_schema = file.read(int.from_bytes(start[skipped : skipped + 4], "little")), 2
    schema = field(table, at(table, 0), of_schema)
    waiting = [(column, 1) for column in tables(table, schema, 1)]
    for _ in range(_MOST_LOOKS):
        if not waiting:
            return False
        column, level = waiting.pop()
        if level > MOST_LEVELS:
            return True
        waiting += [(child, level + 1) for child in tables(table, column, 5)]
    return True
