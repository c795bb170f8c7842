"""Moves a few cells at a time, and a few of their files, and ends all of it together."""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

from mmgrid.store.errors import StoreError
from mmgrid.store.remote.errors import Stopped

CELLS_AT_ONCE = 4
FILES_AT_ONCE = 4
_LOOK_SECONDS = 0.2

T = TypeVar("T")
R = TypeVar("R")


class Transfers(Generic[T, R]):
    """Threads for cells, which wait, and for files, which work.

    progress: called with the number of bytes that were moved or read so far.
    """

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress, self._done, self._lock = progress, 0, threading.Lock()
        self._stopped = threading.Event()
        self._cells = ThreadPoolExecutor(CELLS_AT_ONCE, thread_name_prefix="cell")
        self._files = ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is not None:
            self._stopped.set()
        self._cells.shutdown()  # what has not begun ends at once
        self._files.shutdown()

    def count(self, size_bytes: int) -> None:
        """Count bytes. Raises Stopped if the transfers are to end."""
        self._check()
        with self._lock:
            self._done += size_bytes
            self._progress(self._done)

    def of_cells(self, cells: Iterable[T], work: Callable[[T], R]) -> tuple[dict[T, R], dict[T, str]]:
        """Cell → result, and cell → problem, for the cells that a `StoreError` ended; any other error ends all."""

        def one(cell: T) -> R:
            self._check()
            return work(cell)

        futures = {cell: self._cells.submit(one, cell) for cell in cells}
        found: dict[T, R] = {}
        problems: dict[T, str] = {}
        self._wait(futures)
        for cell, future in futures.items():
            try:
                found[cell] = future.result()
            except StoreError as error:
                problems[cell] = str(error)
        return found, problems

    def of_files(self, tasks: Iterable[Callable[[], None]]) -> None:
        """Do the tasks of one cell. When one fails, no other is begun, and its error is raised at the end."""
        failed = threading.Event()

        def one(task: Callable[[], None]) -> None:
            self._check()
            if failed.is_set():
                raise Stopped
            try:
                task()
            except BaseException:
                failed.set()
                raise

        futures = [self._files.submit(one, task) for task in tasks]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    def _wait(self, futures: Mapping[T, "Future[R]"]) -> None:
        """Until all are done, or one has an error that ends them all."""
        left = set(futures.values())
        while left:
            # A signal may reach another thread, and then ends no wait without a limit.
            done, left = wait(left, _LOOK_SECONDS, return_when=FIRST_EXCEPTION)
            for future in done:
                if (error := future.exception()) is not None and not isinstance(error, StoreError):
                    raise error
