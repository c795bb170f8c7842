"""Processes many items with a few threads; numpy and reads release the interpreter lock while they work."""

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from mmgrid.machine.cores import available_cores

Item = TypeVar("Item")
_MOST_WORKERS = 16  # beyond that, the disk and the interpreter are the limit


def default_workers() -> int:
    """The number of cores available to this process, at most 16."""
    return min(available_cores(), _MOST_WORKERS)


def for_each(items: Iterable[Item], work: Callable[[Item], None], workers: int) -> None:
    """Call `work` on every item, in `workers` threads; a free thread takes the next item.

    After an error no more items are started; it is raised when all threads have stopped. Values that become too large
    cause no warning: who stores them checks them.
    """

    def quietly(item: Item) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            work(item)

    if workers <= 1:
        for item in items:
            quietly(item)
        return
    todo, taking, failures = iter(items), threading.Lock(), []
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            with taking:
                item = next(todo, done)
            if item is done:
                return
            try:
                quietly(item)  # pyright: ignore[reportArgumentType]
            except BaseException as error:
                failures.append(error)
                stopped.set()

    done = object()
    threads: list[threading.Thread] = []
    try:
        for number in range(workers):
            thread = threading.Thread(target=run, name=f"merge-{number}", daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()
    except BaseException:  # such as that the system starts no more threads
        stopped.set()
        for thread in threads:
            thread.join()
        raise
    if failures:
        raise failures[0]
