"""Memory that is used again and again, so that short-lived arrays cost no page faults.

Arrays of some hundred kilobytes are given back to the system when they are freed, and every page of the next one is
cleared and mapped anew: on the development machine that cost more than all arithmetic of a merge. Inside a `frame`,
`take` hands out parts of buffers that belong to the thread and live as long as it does; the end of the frame takes
them all back. Outside of frames `take` makes new arrays, so the same code serves both.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike


class _Pool(threading.local):
    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self.used: int | None = None  # buffers handed out in this frame; None outside of frames


_pool = _Pool()


@contextlib.contextmanager
def frame() -> Iterator[None]:
    """While it lasts, `take` hands out this thread's buffers; arrays from it must not outlive it."""
    before = _pool.used
    _pool.used = before or 0
    try:
        yield
    finally:
        _pool.used = before


def take(n: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """An array of `n` elements whose content is whatever was there."""
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
    """An array of the shape (and, by default, the type) of another, whose content is whatever was there."""
    return take(array.size, array.dtype if dtype is None else dtype).reshape(array.shape)
