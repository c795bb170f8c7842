"""Flushes a large file to the disk while it is being written."""

import os
import threading

FLUSHED_BYTES = 1 << 26  # bytes written between two flushes


class Flusher:
    """A thread that flushes a file to the disk from time to time, so that little is left to flush at the end.

    Args:
        descriptor: the file; must stay open until `end`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = 0  # bytes written since the last flush
        self._ended = False
        self._failure: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="merge-flusher", daemon=True)
        self._thread.start()

    def add(self, n_bytes: int) -> None:
        """Note that `n_bytes` more have been written."""
        with self._changed:
            self._waiting += n_bytes
            if self._waiting >= FLUSHED_BYTES:
                self._changed.notify()

    def end(self) -> None:
        """Stop. Bytes written since the last flush are left to whoever flushes the whole file.

        Raises:
            OSError: a flush failed. The system would not report this again.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        flush = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync
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
