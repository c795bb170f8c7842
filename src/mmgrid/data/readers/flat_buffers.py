"""Fields of FlatBuffers, in which Arrow writes its schemas and the lengths of its data.

A table is named by the place where it begins. https://flatbuffers.dev/internals
"""

import struct

BREAKS = (IndexError, ValueError, struct.error)
"""What damaged bytes raise."""


def at(data: bytes, place: int) -> int:
    """Where an offset leads."""
    return place + struct.unpack_from("<I", data, place)[0]


def slot(data: bytes, table: int, number: int) -> int:
    """Where a field of a table lies; 0 if it has none."""
    names = table - struct.unpack_from("<i", data, table)[0]
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", data, names)[0]:
        return 0
    offset = struct.unpack_from("<H", data, names + entry)[0]
    return table + offset if offset else 0


def field(data: bytes, table: int, number: int) -> int:
    """Where the table or vector begins that a field holds; 0 if it has none."""
    place = slot(data, table, number)
    return at(data, place) if place else 0


def tables(data: bytes, table: int, number: int) -> list[int]:
    """Where the tables of a field begin that is a vector of them."""
    start, count = vector(data, table, number, 4)
    return [at(data, start + 4 * index) for index in range(count)]


def vector(data: bytes, table: int, number: int, width: int) -> tuple[int, int]:
    """Where the elements of a field begin that is a vector, and how many there are; `width` is that of one, in bytes.

    Raises ValueError if it holds more of them than there are bytes.
    """
    start = field(data, table, number)
    if not start:
        return 0, 0
    count = struct.unpack_from("<I", data, start)[0]
    if width * count > len(data):
        raise ValueError("more elements than bytes")
    return start + 4, count


def whole(data: bytes, table: int, number: int) -> int:
    """A field of 64 bits; 0 if it is left out."""
    place = slot(data, table, number)
    return struct.unpack_from("<q", data, place)[0] if place else 0
