"""Reads text files, compressed or not, as blocks of whole lines or rows, so that they may be larger than memory.

A block knows the number of its first line, so that errors can name a line. Compressed files are read to the end, where
the checksum is: a truncated file is an error, never a shorter table. Whatever the encoding of the file, a block is UTF-8.
"""

import codecs
import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from mmgrid.data.errors import DataError

BLOCK_BYTES = 1 << 25
_LONGEST_ROW_BYTES = 1 << 29  # a quote that is never closed would make one row of the rest of the file


@dataclass(frozen=True)
class Block:
    """Whole lines of a file. first_line: number of the first one, from 1."""

    first_line: int
    data: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number and content of each non-blank line."""
        for number, line in enumerate(self.data.splitlines(), self.first_line):
            if line.strip():
                yield number, line


def blocks(
    path: Path, block_bytes: int | None = None, *, separator: str | None = None, encoding: str | None = None
) -> Iterator[Block]:
    """The file in blocks of about `block_bytes` (default `BLOCK_BYTES`); a longer line makes a longer block.

    Args:
        separator: of the values in a row. A row whose quoted values hold line breaks is then not divided.
        encoding: of the file; None: UTF-8, or UTF-16 if the file begins with its mark.

    Raises DataError if a compressed file is truncated or damaged, if the text is not in this encoding, or if a quote
    is never closed.
    """
    block_bytes = block_bytes or BLOCK_BYTES
    line, rest = 1, b""
    decode = None
    with _opened(path) as stream:
        while True:
            read = _read(path, stream, block_bytes, line)
            if decode is None:
                decode, read = _decoder(path, read, encoding)
            data = rest + decode(read, line)
            cut = _end_of_rows(data, separator) if read else len(data)
            if len(data) - cut > _LONGEST_ROW_BYTES:
                begins = line + data.count(b"\n", 0, cut)
                raise DataError(
                    f"{path}: a quote in line {begins} or soon after it is never closed; close it, or double it if it "
                    "belongs to the text"
                )
            whole, rest = data[:cut], data[cut:]
            if whole:
                yield Block(line, whole)
                line += whole.count(b"\n")
            if not read:
                return


def _opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path.suffix == ".gz":
        return gzip.open(path)  # pyright: ignore[reportReturnType] - the mode is binary
    return zstd.open(path) if path.suffix == ".zst" else path.open("rb")  # pyright: ignore[reportReturnType]


def _read(path: Path, stream: IO[bytes], size: int, line: int) -> bytes:
    kind = "gzip" if path.suffix == ".gz" else "zstd"
    try:
        return stream.read(size)
    except EOFError as error:
        raise DataError(
            f"{path}: the {kind} file is cut off after line {line}; get it again (the download or copy was incomplete)"
        ) from error
    except (gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
        raise DataError(
            f"{path}: not a {kind} file, or a damaged one ({error}); get it again, or name it without {path.suffix} "
            "if it is not compressed"
        ) from error


def _decoder(path: Path, start: bytes, encoding: str | None) -> tuple[Any, bytes]:
    """A function from bytes and a line number to UTF-8, and the start of the file without its byte-order mark."""
    if encoding is None and start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        if b"\0" in start[:1000]:
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


def _end_of_rows(data: bytes, separator: str | None) -> int:
    """Where the last whole row ends."""
    end = data.rfind(b"\n") + 1
    if separator is None or b'"' not in data:
        return end
    mark = re.escape(separator.encode())
    # A quoted value begins at the start of a value; a quote elsewhere, as in 5" pipe, is a character like any other.
    for quoted in re.finditer(rb"(?:\A|(?<=[\n" + mark + rb']))"[^"]*+(?:""[^"]*+)*+("?)', data):
        if not quoted[1] or quoted.end() > end:
            return data.rfind(b"\n", 0, quoted.start()) + 1
    return end
