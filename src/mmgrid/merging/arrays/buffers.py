"""Reuses memory, so that short-lived arrays cause no page faults.

Freed arrays of a few hundred kilobytes go back to the system, which clears and maps every page of the next array
again; this can cost more than all the arithmetic of a merge. Inside a `frame`, `take` returns parts of buffers that
belong to the thread, and the end of the frame frees them for the next one. Outside of frames `take` returns new arrays,
so the same code works in both cases.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike

# Takes whether to wait for other threads; returns whether it is done.
LastCall = Callable[[bool], bool]


class _Pool(threading.local):
    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self.used: int | None = None  # buffers in use in this frame; None outside of frames
        self.at_end: list[LastCall] = []  # to be called at the end of this frame


_pool = _Pool()


@contextlib.contextmanager
def frame() -> Iterator[None]:
    """Inside it, `take` returns this thread's buffers; arrays taken there must not be used after it."""
    before, before_at_end = _pool.used, _pool.at_end
    _pool.used, _pool.at_end = before or 0, []
    try:
        try:
            yield
        finally:
            if _pool.at_end:
                _finish(_pool.at_end)
    finally:
        _pool.used, _pool.at_end = before, before_at_end


def at_end_of_frame(call: LastCall) -> bool:
    """Have it called at the end of this thread's innermost frame, while the arrays taken there are still in use.

    Returns:
        False outside of frames; it is not called then.
    """
    if _pool.used is None:
        return False
    _pool.at_end.append(call)
    return True


def _finish(calls: Sequence[LastCall]) -> None:
    """Calls all of them, whatever some raise: first those that need not wait, because others may wait for them."""
    waiting: list[LastCall] = []
    with contextlib.ExitStack() as second, contextlib.ExitStack() as first:
        second.callback(_call_all, waiting)
        for call in calls:
            first.callback(lambda call=call: None if call(False) else waiting.append(call))


def _call_all(calls: Sequence[LastCall]) -> None:
    with contextlib.ExitStack() as stack:
        for call in calls:
            stack.callback(call, True)


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
