"""Thrift's compact protocol, in which parquet writes its schema.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator


class Compact:
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
