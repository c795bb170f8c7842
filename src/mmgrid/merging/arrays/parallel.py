"""Work on many pieces with a few threads; numpy and reads let go of the interpreter while they work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Piece = TypeVar("Piece")
_MOST_WORKERS = 16  # beyond, the disk and the interpreter are the limit


def default_workers() -> int:
    """As many threads as there are cores for this process, within reason."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


def for_each(pieces: Iterable[Piece], work: Callable[[Piece], None], workers: int) -> None:
    """Call `work` on every piece, in `workers` threads; each takes the next piece that nobody has.

    The first error stops all of them and is raised, once nobody works any more.
    """
    if workers <= 1:
        for piece in pieces:
            work(piece)
        return
    todo, taking, failures = iter(pieces), threading.Lock(), []
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            with taking:
                piece = next(todo, done)
            if piece is done:
                return
            try:
                work(piece)  # pyright: ignore[reportArgumentType]
            except BaseException as error:
                failures.append(error)
                stopped.set()

    done = object()
    threads = [threading.Thread(target=run, name=f"merge-{number}", daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        stopped.set()
        for thread in threads:
            thread.join()
        raise
    if failures:
        raise failures[0]
