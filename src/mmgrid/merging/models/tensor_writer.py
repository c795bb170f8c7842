"""Writes a safetensors file run by run, each at its final place. No torch."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from mmgrid.machine.positioned import open_to_write, write_at
from mmgrid.merging.arrays.floats import STORAGE
from mmgrid.merging.models.flusher import FLUSHED_BYTES, Flusher
from mmgrid.merging.models.header import plan_header
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.models.written import WrittenDigest


class TensorWriter:
    """Writes a new safetensors file; any thread may write runs in any order, each at its final place.

    Args:
        path: the new file; must not exist, except with `resume`.
        tensors: name → type and shape.
        resume: continue a file that another writer for the same tensors did not finish.
        twins: tensor → the one whose values it has, too; it is written with it.
        digest: take this kind of digest of the file, one of `mmgrid.files.DIGEST_KINDS`.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, TensorInfo],
        *,
        resume: bool = False,
        twins: Mapping[str, str] | None = None,
        digest: str | None = None,
    ) -> None:
        described = {name: (info.dtype, info.shape) for name, info in tensors.items()}
        self._flusher: Flusher | None = None
        self._digest: WrittenDigest | None = None
        self._twins: dict[str, list[str]] = {}
        for twin, first in (twins or {}).items():
            self._twins.setdefault(first, []).append(twin)
        # transformers refuses files that do not name the framework.
        header, self._entries = plan_header(described, {"format": "pt"})
        self._descriptor = open_to_write(path, new=not resume)
        try:
            _reserve(self._descriptor, max((entry.end for entry in self._entries.values()), default=len(header)))
            self._digest = WrittenDigest(path, digest) if digest is not None else None
            self._put(memoryview(header), 0)
            if sum(entry.end - entry.start for entry in self._entries.values()) >= 2 * FLUSHED_BYTES:
                self._flusher = Flusher(self._descriptor)
        except BaseException:
            self._close_file()
            raise

    def write(self, name: str, start: int, stored: np.ndarray) -> None:
        """Write a run of elements from element `start` on; its type must be the tensor's."""
        entry = self._entries[name]
        assert stored.dtype == STORAGE[entry.dtype], (name, stored.dtype, entry.dtype)
        raw = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
        for place in (entry, *(self._entries[twin] for twin in self._twins.get(name, ()))):
            self._put(raw.data, place.start + start * stored.itemsize)

    def _put(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            done += write_at(self._descriptor, view[done:], offset + done)
        if self._digest is not None:
            self._digest.add(offset, view)
        if self._flusher is not None:
            self._flusher.add(len(view))

    def digest(self) -> str | None:
        """The digest of the file, once all has been written; None if none is taken."""
        return None if self._digest is None else self._digest.finish()

    def close(self) -> None:
        """Close the file. Some of its bytes may not be on the disk yet.

        Raises:
            OSError: a flush failed.
        """
        try:
            if self._flusher is not None:
                self._flusher.end()
        finally:
            self._close_file()

    def _close_file(self) -> None:
        try:
            os.close(self._descriptor)
        finally:
            if self._digest is not None:
                self._digest.close()

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():  # the first error counts
            self.close()


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the space at once, so that a full disk causes an error now and not after an hour."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise  # otherwise the file system has no such operation, and the file grows while it is written
