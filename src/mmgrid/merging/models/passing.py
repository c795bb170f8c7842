"""The digest of a file from the bytes that a merge reads anyway, so that no byte is read twice.

A merge reads the runs of a file nearly in their order, several at a time. A run that comes too early waits for the one
before it, if that is being read; what lies between two runs is read here. What a merge does not read, or reads in another
order, is read at the end.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from blake3 import blake3

_LARGEST_GAP = 1 << 23  # bytes that are read here, so that the digest does not stay behind
_BLOCK_BYTES = 1 << 19
_PATIENCE_SECONDS = 1.0  # a run that does not come by then has met a slow disk or a busy machine


@runtime_checkable
class Followed(Protocol):
    """A source that adds what it reads of its files to their digests."""

    def follow(self, digest_of: "Callable[[Path], PassingDigest | None]") -> None:
        """From now on, add what is read of each file to its digest, if it has one."""
        ...


class PassingDigest:
    """The BLAKE3 digest of a file of which others read runs. Threads may share it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._digest = blake3()
        self._stream = file.open("rb", buffering=0)
        self._position = 0  # bytes before it are in the digest
        self._is_adding = False
        self._coming: list[tuple[int, int]] = []  # the runs that are being read
        self._is_behind = False  # the rest is read at the end
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reading(self, start: int, stop: int) -> Iterator[None]:
        """Announces that bytes [start, stop) are read inside the block, and `add`ed."""
        run = (start, stop)
        with self._changed:
            self._coming.append(run)
        try:
            yield
        finally:
            with self._changed:
                self._coming.remove(run)
                self._changed.notify_all()

    def add(self, start: int, content: memoryview) -> None:
        """Add the bytes from `start` on, as far as they continue what has been added."""
        stop = start + len(content)
        with self._changed:
            while self._is_adding or (self._position < start and self._is_coming()):
                if self._is_behind:
                    return
                self._is_behind = not self._changed.wait(_PATIENCE_SECONDS)
            begin = self._position
            if self._is_behind or begin >= stop or start - begin > _LARGEST_GAP:
                return
            self._is_adding = True
        end = begin
        try:
            if begin < start:
                end = self._read(begin, start)
            if end >= start:
                self._digest.update(content[max(begin - start, 0) :])
                end = stop
        finally:
            with self._changed:
                if end < stop:  # an error, or the file became shorter: all is read again at the end
                    self._digest, self._position, self._is_behind = blake3(), 0, True
                else:
                    self._position = stop
                self._is_adding = False
                self._changed.notify_all()

    def finish(self, progress: Callable[[int], None]) -> str:
        """The digest, once nobody adds to it. `progress` takes the number of bytes read since the last call.

        Raises:
            OSError: the file cannot be read.
        """
        self._read(self._position, None, progress)
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _is_coming(self) -> bool:
        return any(start <= self._position < stop for start, stop in self._coming)

    def _read(self, start: int, stop: int | None, progress: Callable[[int], None] = lambda _: None) -> int:
        """Add bytes [start, stop) of the file, without `stop` all from `start` on. Returns where they end."""
        self._stream.seek(start)
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        while stop is None or start < stop:
            wanted = _BLOCK_BYTES if stop is None else min(_BLOCK_BYTES, stop - start)
            count = self._stream.readinto(buffer[:wanted])
            if not count:
                break
            self._digest.update(buffer[:count])
            start += count
            progress(count)
        return start
