"""Two things at once, which leave the interpreter to others most of the time, as numpy and polars do."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

from mmgrid.machine.cores import available_cores

T = TypeVar("T")
U = TypeVar("U")


def both(one: Callable[[], T], other: Callable[[], U]) -> tuple[T, U]:
    """What two functions give: the second one runs in a thread, if there is a core for it.

    Raises what the first one raises, or else the second.
    """
    if available_cores() < 2:
        return one(), other()
    with ThreadPoolExecutor(1, "beside") as pool:
        beside = pool.submit(other)
        return one(), beside.result()


@contextmanager
def begun(values: Generator[T], most: int) -> Generator[Generator[T]]:
    """The same values, of which up to `most` are made in a thread before the first is asked for, if there is a core for it.

    An error is raised after the values before it. The thread makes no further value when the context is left.
    """
    left, made = False, list[T]()

    def make() -> BaseException | None:
        try:
            while not left and len(made) < most:
                made.append(next(values))
        except BaseException as error:
            return error

    def all_of_them(pending: Future[BaseException | None]) -> Generator[T]:
        error = pending.result()
        yield from made
        made.clear()
        if isinstance(error, StopIteration):
            return
        if error is not None:
            raise error
        yield from values

    with closing(values):
        if available_cores() < 2:
            yield values
            return
        with ThreadPoolExecutor(1, "begun") as pool:
            try:
                yield all_of_them(pool.submit(make))
            finally:
                left = True


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values, the next of which is made in a thread while the last one is used, if there is a core for it."""
    if available_cores() < 2:
        yield from values
        return
    end = object()
    try:
        with ThreadPoolExecutor(1, "ahead") as pool:
            pending = pool.submit(next, values, end)
            while (value := pending.result()) is not end:
                pending = pool.submit(next, values, end)
                yield value  # pyright: ignore[reportReturnType] - it is not the end
    finally:
        if isinstance(values, Generator):  # it may hold files
            values.close()
