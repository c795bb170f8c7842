"""Reuses memory, so that short-lived arrays cause no page faults.

Freed arrays of a few hundred kilobytes go back to the system, which clears and maps every page of the next array
again; this can cost more than all the arithmetic of a merge. Inside a `frame`, `take` returns parts of buffers that
belong to the thread, and the end of the frame frees them for the next one. Outside of frames `take` returns new arrays,
so the same code works in both cases.
"""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike


class _Pool(threading.local):
    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self.used: int | None = None  # buffers in use in this frame; None outside of frames


_pool = _Pool()


@contextlib.contextmanager
def frame() -> Iterator[None]:
    """Inside it, `take` returns this thread's buffers; arrays taken there must not be used after it."""
    before = _pool.used
    _pool.used = before or 0
    try:
        yield
    finally:
        _pool.used = before


def take(n: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """An uninitialised array of `n` elements."""
    if _pool.used is None:
        return np.empty(n, dtype)
    dtype = np.dtype(dtype)
    needed = n * dtype.itemsize
    if _pool.used == len(_pool.buffers):
        _pool.buffers.append(np.empty(needed, np.uint8))
    buffer = _pool.buffers[_pool.used]
    if len(buffer) < needed:
        buffer = _pool.buffers[_pool.used] = np.empty(needed, np.uint8)
    _pool.used += 1
    return buffer[:needed].view(dtype)


def like(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """An uninitialised array of the shape (and, by default, the type) of another."""
    return take(array.size, array.dtype if dtype is None else dtype).reshape(array.shape)
