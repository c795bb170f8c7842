"""How deeply the columns of a parquet or Arrow file are nested, told before a library reads the file: those that call
themselves for each level end the whole process at some thousand levels.

Only what is needed is read of the two formats: https://github.com/apache/parquet-format (Thrift's compact protocol) and
https://arrow.apache.org/docs/format/Columnar.html (FlatBuffers).
"""

import os
from pathlib import Path

from mmgrid.data.readers.compact_protocol import Compact
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
        footer = Compact(file.read(min(length, size)))
    for number, kind in footer.fields():
        if number == 2:
            return _children_too_deep(footer)
        footer.skip(kind)
    return False


def _children_too_deep(footer: Compact) -> bool:
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
