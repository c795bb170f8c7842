"""Whether an Arrow file holds as many bytes as it says, told before Polars reads it.

Polars takes the memory that a file claims, and where the system does not give it, the whole process ends.
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

import os
import struct
from pathlib import Path
from typing import IO

from mmgrid.data.readers.flat_buffers import BREAKS, at, field, slot, vector, whole

_SIGN = b"ARROW1"
_GOES_ON = b"\xff" * 4
_BATCH_OF_WORDS, _BATCH = 2, 3  # types of messages
_MOST_RATIO = 400  # as of other packed files
_CHECKED_FROM_BYTES = 1 << 28


def claims_too_much(path: Path) -> bool:
    """Whether a part of an Arrow file, or what is packed in it, is said to be longer than it can be.

    True for a file that is cut off or damaged, too. Raises OSError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            indexed = file.read(len(_SIGN)) == _SIGN
            for place in _in_index(file, size) if indexed else (0,):
                while place < size:
                    place = _after(file, place, size)
                    if indexed:
                        break
    except BREAKS:
        return True
    return False


def _in_index(file: IO[bytes], size: int) -> list[int]:
    """Where the parts begin that the end of a file lists."""
    file.seek(max(0, size - 10))
    length, sign = struct.unpack("<i6s", file.read(10))
    if sign != _SIGN or not 0 <= length <= size - 10:
        raise ValueError("the file is cut off, or its index is longer")
    file.seek(size - 10 - length)
    footer = file.read(length)
    found = []
    for number in (2, 3):
        start, count = vector(footer, at(footer, 0), number, 24)
        found += [struct.unpack_from("<q", footer, start + 24 * index)[0] for index in range(count)]
    if not all(0 <= place < size for place in found):
        raise ValueError("a part lies outside of the file")
    return found


def _after(file: IO[bytes], place: int, size: int) -> int:
    """Where the message ends that begins at `place`. Raises ValueError if it, or a buffer in it, ends beyond."""
    file.seek(place)
    start = file.read(8)
    before = 8 if start[:4] == _GOES_ON else 4  # older files have no such sign
    length = struct.unpack_from("<i", start, before - 4)[0]
    if length == 0:
        return size
    body = place + before + length
    if not 0 < length <= size - place - before:
        raise ValueError("a message is longer than the file")
    file.seek(place + before)
    head = file.read(length)
    message = at(head, 0)
    room = whole(head, message, 3)
    if not 0 <= room <= size - body:
        raise ValueError("data are longer than the file")
    kind, batch = head[slot(head, message, 1)], field(head, message, 2)
    if kind == _BATCH_OF_WORDS:
        batch = field(head, batch, 1)
    if kind in (_BATCH_OF_WORDS, _BATCH):
        _check_buffers(file, head, batch, body, room)
    return body + room


def _check_buffers(file: IO[bytes], head: bytes, batch: int, body: int, room: int) -> None:
    begin, count = vector(head, batch, 2, 16)
    packed, grown = bool(field(head, batch, 3)), 0
    for index in range(count):
        offset, length = struct.unpack_from("<qq", head, begin + 16 * index)
        if not (offset >= 0 and 0 <= length <= room - offset):
            raise ValueError("a buffer is longer than its message")
        if packed and length:
            file.seek(body + offset)
            grown += max(0, struct.unpack("<q", file.read(8))[0])  # -1: it is not packed
    if grown > max(_CHECKED_FROM_BYTES, _MOST_RATIO * room):
        raise ValueError("what is packed is made to fill memory")
    start, columns = vector(head, batch, 1, 16)
    rows = [whole(head, batch, 0), *(struct.unpack_from("<q", head, start + 16 * one)[0] for one in range(columns))]
    # A column of truth values takes a bit a row, and one of nothing takes none.
    if min(rows) < 0 or max(rows) > max(_CHECKED_FROM_BYTES, 8 * _MOST_RATIO * room):
        raise ValueError("there are more rows than bytes for them")
