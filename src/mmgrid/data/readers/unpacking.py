"""The bytes of a file, unpacked, if its name ends with .gz or .zst.

Compressed files are read to the end, where the checksum is: a truncated file is an error, never a shorter table. They
are unpacked in a thread, a block ahead of the one that is parsed. gzip is unpacked by isal, in half the time of
zlib (benchmarks/prepare.py).
"""

import gzip
import io
import os
import sys
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from isal import isal_zlib

from mmgrid.data.errors import DamagedError, DataError
from mmgrid.data.readers.first_bytes import foreign_kind
from mmgrid.files.impostors import START_BYTES, impostor

_DAMAGED: tuple[type[BaseException], ...] = (gzip.BadGzipFile, zlib.error, zstd.ZstdError, isal_zlib.error)  # pyright: ignore[reportAssignmentType] - its stubs say less
KINDS = {".gz": "gzip", ".zst": "zstd"}
# Logs shrink to a tenth, seldom to a fiftieth. What shrinks to less than this was made to fill memory.
_MOST_RATIO = 400
_CHECKED_FROM_BYTES = 1 << 28
_AHEAD_FROM_BYTES = 1 << 20
# Of the packed file at a time: between any two pieces, the thread that unpacks waits for the interpreter.
_PIECE_BYTES = 1 << 21


class Unpacked:
    """A file that is open for reading.

    kind: gzip, zstd, or None for plain bytes; by default as its name ends.

    Raises DataError if it is missing or not readable, and DamagedError if it is surely something else, such as a web page.
    """

    def __init__(self, path: Path, kind: str | None = None) -> None:
        self.path = path
        self._kind = kind or KINDS.get(path.suffix.lower())
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise unreadable(path, error) from error
        self._size = os.fstat(self._file.fileno()).st_size
        openers: dict[str | None, Any] = {"gzip": _open_gzip, "zstd": _open_zstd}
        self._stream = _Ahead(openers[self._kind](self._file)) if self._kind else self._file
        self._read_bytes = 0

    def __enter__(self) -> "Unpacked":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
        self._file.close()

    def read(self, size: int, line: int) -> bytes:
        """At most so many of the next bytes; b"" at the end.

        Args:
            line: the number of the line at which they begin, for errors.

        Raises DamagedError if the file is cut off or damaged, and DataError if it cannot be read now, or grows beyond
        measure when it is unpacked.
        """
        try:
            data = self._stream.read(size)
        except EOFError as error:
            raise DamagedError(
                f"{self.path}: the {self._kind} file is cut off at or after line {line}, or other bytes follow its end; get "
                "it again (the download or copy was incomplete)"
            ) from error
        except _DAMAGED as error:
            refuse_impostor(self.path, self._kind)
            raise DamagedError(
                f"{self.path}: not a {self._kind} file, or a damaged one ({error}), at or after line {line}; get it "
                f"again, or name it without {self.path.suffix} if it is not compressed"
            ) from error
        except OSError as error:
            raise unreadable(self.path, error) from error
        if not self._read_bytes:
            _check_start(self.path, data, unpacked=self._kind is not None)
        self._read_bytes += len(data)
        self._check_ratio(line)
        if self._size and self._file.tell() > self._size:
            raise DataError(f"{self.path}: grew while it was read; read it when nothing writes into it any more")
        return data

    def _check_ratio(self, line: int) -> None:
        if self._kind is None or self._read_bytes < _CHECKED_FROM_BYTES:
            return
        ratio = self._read_bytes / max(1, self._file.tell())
        if ratio > _MOST_RATIO:
            raise DataError(
                f"{self.path}: grows to {ratio:,.0f} times its size when it is unpacked (by line {line}), more than "
                f"{_MOST_RATIO}, as if made to fill memory; if it is what it should be, unpack it yourself and name "
                "the file without its last extension"
            )


def _open_gzip(file: IO[bytes]) -> IO[bytes]:
    """As `igzip.open`, which reads a quarter as much at a time."""
    return io.BufferedReader(isal_zlib._GzipReader(file, _PIECE_BYTES))  # pyright: ignore[reportPrivateUsage, reportArgumentType]


def _open_zstd(file: IO[bytes]) -> Any:
    return zstd.open(_Pieces(file))  # pyright: ignore[reportArgumentType] - it reads, and does nothing else


class _Pieces:
    """A file that gives large pieces, whatever size is asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(_PIECE_BYTES)


class _Ahead:
    """A stream whose next bytes are read while the last ones are used."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._pool: ThreadPoolExecutor | None = None
        self._next: Future[bytes] | None = None

    def read(self, size: int) -> bytes:
        """At most so many bytes, or as many as were asked for before."""
        pending, self._next = self._next, None
        data = self._stream.read(size) if pending is None else pending.result()
        if len(data) >= _AHEAD_FROM_BYTES:  # what is short needs no thread
            self._pool = self._pool or ThreadPoolExecutor(1, "unpacking")
            self._next = self._pool.submit(self._stream.read, size)
        return data

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._stream.close()


def refuse_impostor(path: Path, kind: str | None = None) -> None:
    """Raise DamagedError if a file that could not be read is surely something else, such as a pointer of Git LFS.

    kind: what it was taken for, if its name does not say it.
    """
    try:
        with path.open("rb") as file:
            _check_start(path, file.read(START_BYTES), taken_for=kind)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the system does not give."""
    why = (error.strerror or str(error)).lower()
    remedy = "get the right to read it" if isinstance(error, PermissionError) else "check the path and the disk"
    return DataError(f"{path}: cannot be read ({why}); {remedy}")


def _check_start(path: Path, start: bytes, *, unpacked: bool = False, taken_for: str | None = None) -> None:
    problem = impostor(start[:START_BYTES], whole=len(start) < START_BYTES) if start.strip() else None
    problem = problem or foreign_kind(start[:START_BYTES], path.name, unpacked=unpacked, taken_for=taken_for)
    if problem is not None:
        raise DamagedError(f"{path}: {problem}")
