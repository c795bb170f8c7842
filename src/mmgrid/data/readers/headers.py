"""How a text table begins: what separates its values, and what its columns are called.

The separator is the one that gives the columns that are asked for. A file without a line of names is read if its columns are
asked for by number (`#1`, `#2`), or if it is one of MovieLens, whose columns are known (see
`movielens_files`).
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmgrid.data.errors import DataError
from mmgrid.data.readers.lines import Block, blocks, unsaid
from mmgrid.data.readers.movielens_files import FILES, is_utf8

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", "::": "double colons", "\x01": "Ctrl-A"}
NUMBER = re.compile(r"#[1-9]\d*")
"""The name of a column by its number, in a file without a line of names."""

_SAID = re.compile(r"\ufeff?\"?sep=.\"?\r?\n", re.IGNORECASE)
_SAID_BYTES = 16
_ATOMIC = (".inter", ".item", ".user")
_LOOKED_AT = 30  # lines


@dataclass(frozen=True)
class Header:
    """names: of the columns; empty if the file is. written: whether the file has a line of them. quotes: whether quotes around
    values do not belong to them. encoding: of the file; None: it says so itself."""

    separator: str
    names: tuple[str, ...]
    written: bool = True
    quotes: bool = True
    encoding: str | None = None

    @property
    def mark(self) -> str:
        """The separator as one byte, see `plain`."""
        return self.separator if len(self.separator) == 1 else "\x1f"

    def plain(self, data: bytes) -> bytes:
        """Rows whose values are separated by `mark`."""
        return data if len(self.separator) == 1 else data.replace(self.separator.encode(), self.mark.encode())


def header(path: Path, wanted: Sequence[str], encoding: str | None) -> Header:
    """How a file begins. wanted: columns that the caller looks for."""
    known = _movielens(path, wanted, encoding)
    if known is not None:
        return known
    first = _start(path, encoding)
    if "\r" in first and "\n" not in first:
        raise DataError(f"{path}: its lines end with CR alone; save it with the line ends of Unix or Windows")
    plain = "\t" if ".tsv" in path.name.lower() or _is_atomic(path) else ","
    said = _SAID.match(first)  # the first line of what Excel wrote may say how values are separated
    first = first[said.end() :] if said else first
    numbers = [name for name in wanted if NUMBER.fullmatch(name)]
    best = Header(plain, ())
    best_score = (-1, -1)
    for separator in (plain, *SEPARATORS):
        names = _names(first, separator)
        if _is_atomic(path):
            names = [name.partition(":")[0] for name in names]
        asked_for = sum(name in names for name in wanted)
        score = (asked_for, 0 if asked_for else len(names))
        if score > best_score:
            best_score, best = score, Header(separator, tuple(names), quotes=len(separator) == 1, encoding=encoding)
    if not any(best.names):
        return Header(best.separator, ())
    if numbers and not any(name in best.names for name in numbers):
        names = tuple(f"#{place}" for place in range(1, len(best.names) + 1))
        return Header(best.separator, names, False, best.quotes, encoding)
    return best


def after_header(block: Block, found: Header) -> Block:
    """The first block without its row of names, in which a quoted name may hold line breaks."""
    if not found.written:
        return block
    data = block.data
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8", "replace", newline="")  # decodes only what is read
    said = _SAID.match(data[:_SAID_BYTES].decode(errors="replace")) is not None
    if said:
        lines.readline()
    quoting = csv.QUOTE_MINIMAL if found.quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=found.mark, quoting=quoting)
    next(reader, None)
    place, number = 0, reader.line_num + said
    for _ in range(number):
        place = data.find(b"\n", place) + 1 or len(data)
    return Block(block.first_line + number, data[place:])


def names_below(path: Path, wanted: Sequence[str], encoding: str | None) -> int | None:
    """The line, of the first ones after the first, that has all wanted names: some tools write a report's title above it."""
    lines = _start(path, encoding).split("\n")[:_LOOKED_AT]
    return next(
        (
            number
            for number, line in enumerate(lines[1:], 2)
            if any(set(wanted) <= set(_names(line, separator)) for separator in SEPARATORS)
        ),
        None,
    )


def _start(path: Path, encoding: str | None) -> str:
    """The first block of a file that is not blank."""
    for block in blocks(path, 1 << 16, encoding=encoding, skip=unsaid):
        first = block.data.decode(errors="replace").lstrip("\r\n\ufeff")
        if first:
            return first
    return ""


def _names(first: str, separator: str) -> list[str]:
    """The values of the first row, as names of columns."""
    if len(separator) > 1:
        row = first.partition("\n")[0].rstrip("\r").split(separator)
    else:
        row = next(csv.reader(io.StringIO(first, newline=""), delimiter=separator), [])
    return [name.strip().strip("\ufeff") for name in row]


def _is_atomic(path: Path) -> bool:
    return any(path.name.endswith(suffix) or f"{suffix}." in path.name for suffix in _ATOMIC)


def _movielens(path: Path, wanted: Sequence[str], encoding: str | None) -> Header | None:
    """The header of a file of MovieLens; None for any other, and where the columns are asked for by other names."""
    separator, names = FILES.get(path.name.removesuffix(".gz").removesuffix(".zst"), ("", ()))
    if not names or any(NUMBER.fullmatch(name) for name in wanted):
        return None
    values = _start(path, encoding or "latin-1").partition("\n")[0].rstrip("\r").split(separator)
    if len(values) != len(names) or not values[0].isdigit():
        return None
    return Header(separator, names, False, False, encoding or (None if is_utf8(path) else "latin-1"))
