"""Bringing a large file to the disk while it is still being written."""

from __future__ import annotations

import os
import threading

FLUSHED_BYTES = 1 << 26  # written between one flush and the next


class Flusher:
    """A thread that brings what was written of a file to the disk, some at a time, so that little is left at the end.

    Args:
        descriptor: the file, which stays open until `end`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = 0  # bytes that no flush has seen
        self._ended = False
        self._failure: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="merge-flusher", daemon=True)
        self._thread.start()

    def add(self, n_bytes: int) -> None:
        """So many bytes more are written."""
        with self._changed:
            self._waiting += n_bytes
            if self._waiting >= FLUSHED_BYTES:
                self._changed.notify()

    def end(self) -> None:
        """Stop. What was written since the last flush is left to whoever brings the whole file to the disk.

        Raises:
            OSError: the disk refused something. A later flush would not say so again.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        flush = getattr(os, "fdatasync", os.fsync)  # macOS has fsync alone
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._waiting >= FLUSHED_BYTES)
                if self._waiting < FLUSHED_BYTES:
                    return
                self._waiting = 0
            try:
                flush(self._descriptor)
            except OSError as error:
                self._failure = error
                return
