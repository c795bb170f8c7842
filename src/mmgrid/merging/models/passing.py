"""The digest of a file from the bytes that a merge reads anyway, so that no byte is read twice.

A merge reads the runs of a file nearly in their order, several at a time. A run that comes too early is added once it has
been used, and waits then for the one before it; what lies between two runs is read here. What a merge does not read, or
reads in another order, is read at the end.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from mmgrid.merging.models.partial_digest import PartialDigest

_SMALL_GAP = 1 << 16  # bytes that are read here at once: a header, vectors
_TIMES = 8  # a larger gap is read if it has at most so many times the bytes of the run behind it
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
    """The digest of a file of which others read runs. Threads may share it.

    Args:
        kind: one of `mmgrid.files.DIGEST_KINDS`.
    """

    def __init__(self, file: Path, kind: str) -> None:
        self._digest = PartialDigest(file, kind)
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
        try:
            self._digest.read(start)
            if self._digest.position >= start:
                self._digest.add(content[self._digest.position - start :])
        finally:
            with self._changed:
                if self._digest.position < stop:  # an error, or the file became shorter: all is read again at the end
                    self._digest.restart()
                    self._is_behind = True
                self._is_adding = False
            self.withdraw(start, stop)
        return True

    def _begin(self, start: int, stop: int, *, wait: bool) -> bool:
        """Whether it is the turn of bytes [start, stop); nobody else adds then.

        Raises:
            _NotWanted: they have been added already, or are too far from what has.
        """
        with self._changed:
            while not self._is_behind and stop > self._digest.position and (self._is_adding or self._precedes()):
                if not wait:
                    return False
                self._is_behind = not self._changed.wait(_PATIENCE_SECONDS)
            gap = start - self._digest.position
            if self._is_behind or stop <= self._digest.position or gap > max(_SMALL_GAP, _TIMES * (stop - start)):
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
        self._digest.read(progress=progress)
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._digest.close()

    def _precedes(self) -> bool:
        """Whether another thread has announced the bytes that come next."""
        own = threading.get_ident()
        return any(first <= self._digest.position < stop for first, stop, thread in self._coming if thread != own)
