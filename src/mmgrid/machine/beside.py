"""Two things at once, which leave the interpreter to others most of the time, as numpy and polars do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
