"""The digest of a file from the bytes that a merge reads anyway, so that no byte is read twice.

A merge reads the runs of a file nearly in their order, several at a time. A run that comes too early is added once it has
been used, and waits then for the one before it; what lies between two runs is read here. What a merge does not read, or
reads in another order, is read at the end.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from blake3 import blake3

_SMALL_GAP = 1 << 16  # bytes that are read here at once: a header, vectors
_TIMES = 8  # a larger gap is read if it has at most so many times the bytes of the run behind it
_BLOCK_BYTES = 1 << 19
_PATIENCE_SECONDS = 1.0  # a run that does not come by then has met a slow disk or a busy machine


class _NotWanted(Exception):  # noqa: N818
    """Bytes do not continue a digest."""


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
        self._coming: list[tuple[int, int, int]] = []  # the runs that are being read, each with its thread
        self._is_behind = False  # the rest is read at the end
        self._changed = threading.Condition()

    def announce(self, start: int, stop: int) -> None:
        """Bytes [start, stop) are going to be read, and to be added or withdrawn."""
        with self._changed:
            self._coming.append((start, stop, threading.get_ident()))

    def withdraw(self, start: int, stop: int) -> None:
        """Announced bytes are not added."""
        with self._changed:
            self._coming.remove((start, stop, threading.get_ident()))
            self._changed.notify_all()

    def add(self, start: int, content: memoryview, *, wait: bool) -> bool:
        """Add announced bytes from `start` on, as far as they continue what has been added.

        Returns:
            False without `wait`, if it is not their turn yet; then they are still announced.
        """
        stop = start + len(content)
        try:
            if not self._begin(start, stop, wait=wait):
                return False
        except _NotWanted:
            self.withdraw(start, stop)
            return True
        begin = end = self._position
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
            self.withdraw(start, stop)
        return True

    def _begin(self, start: int, stop: int, *, wait: bool) -> bool:
        """Whether it is the turn of bytes [start, stop); nobody else adds then.

        Raises:
            _NotWanted: they have been added already, or are too far from what has.
        """
        with self._changed:
            while not self._is_behind and stop > self._position and (self._is_adding or self._precedes()):
                if not wait:
                    return False
                self._is_behind = not self._changed.wait(_PATIENCE_SECONDS)
            gap = start - self._position
            if self._is_behind or stop <= self._position or gap > max(_SMALL_GAP, _TIMES * (stop - start)):
                raise _NotWanted  # a larger gap is left by a sample, or by another order
            if not wait and gap > _SMALL_GAP:  # others may be about to read what is missing
                return False
            self._is_adding = True
        return True

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

    def _precedes(self) -> bool:
        """Whether another thread has announced the bytes that come next."""
        own = threading.get_ident()
        return any(first <= self._position < stop for first, stop, thread in self._coming if thread != own)

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
