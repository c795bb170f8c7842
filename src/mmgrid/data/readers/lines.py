"""Reads text files, gzipped or not, as blocks of whole lines, so that they may be larger than memory.

A block knows the number of its first line, so that errors can name a line. Gzip files are decompressed to the end,
where the checksum is: a truncated file is an error, never a shorter table.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmgrid.data.errors import DataError

BLOCK_BYTES = 1 << 25


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


def blocks(path: Path, block_bytes: int | None = None) -> Iterator[Block]:
    """The file in blocks of about `block_bytes` (default `BLOCK_BYTES`); a longer line makes a longer block.

    Raises DataError if a gzip file is truncated or damaged.
    """
    block_bytes = block_bytes or BLOCK_BYTES
    line, rest = 1, b""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        while True:
            try:
                read = stream.read(block_bytes)
            except EOFError as error:
                raise DataError(
                    f"{path}: the gzip file is cut off after line {line}; get it again (the download or copy was "
                    "incomplete)"
                ) from error
            except (gzip.BadGzipFile, zlib.error) as error:
                raise DataError(
                    f"{path}: not a gzip file, or a damaged one ({error}); get it again, or name it without .gz "
                    "if it is not compressed"
                ) from error
            data = rest + read
            cut = data.rfind(b"\n") + 1 if read else len(data)
            whole, rest = data[:cut], data[cut:]
            if whole:
                yield Block(line, whole)
                line += whole.count(b"\n")
            if not read:
                return
