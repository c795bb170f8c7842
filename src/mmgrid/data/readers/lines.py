"""Reads text files, compressed or not, as blocks of whole lines or rows, so that they may be larger than memory.

A block knows the number of its first line, so that errors can name a line. Whatever the encoding of the file, a block is
UTF-8.
"""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mmgrid.data.errors import DataError
from mmgrid.data.readers.quoting import end_of_rows
from mmgrid.data.readers.unpacking import Unpacked

BLOCK_BYTES = 1 << 23
LONGEST_LINE_BYTES = 1 << 24  # a quote that is never closed would make one row of the rest of the file

# The mark of UTF-16 is the beginning of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

Skip = Callable[[str, str], None]
"""Takes the place and the fault of a line that is left out."""


def unsaid(place: str, why: str) -> None:
    """For a look at the first lines: what is wrong with the others is said when they are read."""


@dataclass(frozen=True)
class Block:
    """Whole lines of a file. first_line: number of the first one, from 1."""

    first_line: int
    data: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number and content of each non-blank line. Lines end with LF or CR LF."""
        for number, line in enumerate(self.data.split(b"\n"), self.first_line):
            if line.strip():
                yield number, line.removesuffix(b"\r")


def blocks(
    path: Path,
    block_bytes: int | None = None,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    skip: Skip | None = None,
) -> Iterator[Block]:
    """The file in blocks of about `block_bytes` (default `BLOCK_BYTES`); a longer line makes a longer block.

    Args:
        separator: of the values in a row. A row whose quoted values hold line breaks is then not divided.
        encoding: of the file; None: UTF-8, or UTF-16 or UTF-32 if the file begins with its mark.
        skip: is told lines that are too long, which are then left out (an empty line keeps their place).

    Raises DataError if the file is missing, cut off, damaged, or surely something else, if the text is not in this
    encoding, or, without `skip`, if a line is longer than `LONGEST_LINE_BYTES` or a quote is never closed.
    """
    size = block_bytes or BLOCK_BYTES
    line, rest = 1, b""
    decode = None
    dropping = False  # within a line that is too long
    with Unpacked(path) as stream:
        while True:
            read = stream.read(size, line)
            if decode is None:
                decode, read = _decoder(path, read, encoding)
            data = decode(read, line)
            if dropping:
                end = data.find(b"\n")
                data = b"" if end < 0 and read else data[max(end, 0) :]
                dropping = end < 0
            whole = _plain_rows(rest, data, separator) if read and not dropping else b""
            if whole:
                rest = data[len(whole) - len(rest) :]
                yield Block(line, whole)
                line += _breaks(whole)
                size = block_bytes or BLOCK_BYTES
                continue
            data = rest + data
            cut = end_of_rows(data, separator) if read else len(data)
            if len(data) - cut > LONGEST_LINE_BYTES:
                lines_before = data.count(b"\n", 0, cut)
                end = data.rfind(b"\n") + 1
                if skip is None:
                    _too_long(path, line + lines_before, quoted=end > cut)
                if end > cut:
                    cut = end  # the reader of rows finds the quote that is not closed
                else:
                    skip(f"{path}:{line + lines_before}", "the line is too long")
                    data, dropping = data[:cut], True
            whole, rest = data[:cut], data[cut:]
            whole = _without_long_lines(path, line, whole, skip)
            if whole:
                yield Block(line, whole)
                line += _breaks(whole)
                size = block_bytes or BLOCK_BYTES
            elif rest:
                size *= 2  # so that a long line is not copied for each of its blocks
            if not read:
                return


def _breaks(data: bytes) -> int:
    """The number of line breaks: `bytes.count` takes several times as long."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))


def _plain_rows(rest: bytes, data: bytes, separator: str | None) -> bytes:
    """The whole rows of what was left and of what was read after it, copied once; empty if they need a closer look."""
    if len(rest) + len(data) > LONGEST_LINE_BYTES or (separator is not None and (b'"' in data or b'"' in rest)):
        return b""
    end = data.rfind(b"\n") + 1
    return b"".join((rest, memoryview(data)[:end])) if end else b""


def _too_long(path: Path, line: int, *, quoted: bool) -> NoReturn:
    if quoted:
        raise DataError(
            f"{path}: a quote in line {line} or soon after it is never closed; close it, or double it if it belongs to "
            "the text"
        )
    raise DataError(
        f"{path}:{line}: the line is longer than {LONGEST_LINE_BYTES >> 20} MiB; write one row in a line, or remove it"
    )


def _without_long_lines(path: Path, first: int, data: bytes, skip: Skip | None) -> bytes:
    """The block with nothing in place of lines that are too long. Raises DataError for them, if there is no `skip`."""
    place, kept = 0, []
    while len(data) - place > LONGEST_LINE_BYTES:
        end = data.rfind(b"\n", place, place + LONGEST_LINE_BYTES + 1) + 1
        if not end:
            number = first + data.count(b"\n", 0, place)
            if skip is None:
                _too_long(path, number, quoted=False)
            skip(f"{path}:{number}", "the line is too long")
            kept.append(data[:place])
            place = data.find(b"\n", place)
            data, place = (b"", 0) if place < 0 else (data[place:], 1)
            first = number
        else:
            place = end
    return b"".join([*kept, data])


def _decoder(path: Path, start: bytes, encoding: str | None) -> tuple[Any, bytes]:
    """A function from bytes and a line number to UTF-8, and the start of the file without its byte-order mark."""
    if encoding is None:
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        if 4 * start[:1000].count(0) > len(start[:1000]):
            raise DataError(f'{path}: holds zero bytes, so it is no text in UTF-8; is it encoding = "utf-16-le"?')
        return lambda data, line: data, start.removeprefix(codecs.BOM_UTF8)
    decoder = codecs.getincrementaldecoder(encoding)()

    def decode(data: bytes, line: int) -> bytes:
        try:
            return decoder.decode(data, final=not data).encode().removeprefix(codecs.BOM_UTF8 if line == 1 else b"")
        except UnicodeError as error:
            raise DataError(
                f"{path}: after line {line}: is not text in {encoding} ({error}); correct `encoding`"
            ) from None

    return decode, start
