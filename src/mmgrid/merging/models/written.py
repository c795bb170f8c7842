"""The digest of a file that is being written, from its runs while they are in a core's cache.

A merge writes the runs of a file nearly in their order, several at a time. One that comes too early waits for nobody: it is
read back once all before it have been written.
"""

import threading
from pathlib import Path

from mmgrid.merging.models.partial_digest import PartialDigest


class WrittenDigest:
    """The digest of a file of which others write runs. Threads may share it.

    Args:
        kind: one of `mmgrid.files.DIGEST_KINDS`.
    """

    def __init__(self, file: Path, kind: str) -> None:
        self._digest = PartialDigest(file, kind)
        self._early: dict[int, int] = {}  # start → end of the runs that have been written, but are not in the digest
        self._is_adding = self._is_behind = False
        self._changing = threading.Lock()

    def add(self, start: int, content: memoryview) -> None:
        """Bytes have been written from `start` on, and will not change."""
        stop = start + len(content)
        with self._changing:
            if self._is_behind or start == stop:
                return
            self._early[start] = stop
            if self._is_adding:  # and goes on with these bytes when it is their turn
                return
            self._is_adding = True
        try:
            while (end := self._next()) is not None:
                if (self._digest.position, end) == (start, stop):
                    self._digest.add(content)
                else:
                    self._digest.read(end)
        except BaseException:
            self._is_behind = True  # all is read at the end
            self._digest.restart()
            raise

    def finish(self) -> str:
        """The digest, once nobody writes any more.

        Raises:
            OSError: the file cannot be read.
        """
        self._digest.read()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._digest.close()

    def _next(self) -> int | None:
        """Where the run ends that comes next; None if it has not been written, and nobody adds any more."""
        with self._changing:
            end = self._early.pop(self._digest.position, None)
            self._is_adding = end is not None
            return end
