"""Several files at once, in threads, with the results and the errors of one after the other.

Unpacking and Polars leave the interpreter to others, so that as many files are read at once as there are cores. What parses
JSON lines holds it: two files at once take longer than one after the other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mmgrid.machine.cores import available_cores

T = TypeVar("T")


class Turn:
    """Whether a file is still to be read: no longer, once one before it has failed."""

    def __init__(self, place: int, failed: list[int]) -> None:
        """failed: the places of files that failed, to which others add."""
        self._place, self._failed = place, failed

    def while_mine(self, values: Iterable[T]) -> Iterator[T]:
        """The values, as long as no file before failed. Raises GivenUp then."""
        self._check()
        for value in values:
            yield value
            self._check()

    def _check(self) -> None:
        if any(place < self._place for place in self._failed):
            raise GivenUp


class GivenUp(Exception):  # noqa: N818 - it is no error: another file is the reason
    """A file is not read further, since one before it failed."""


def in_order(read: Callable[[Path, Turn], T], files: Sequence[Path]) -> list[T]:
    """What `read` makes of each file, in the order of the files.

    Args:
        read: takes its pieces through the `Turn`. It must not change what others use.
        files: of JSON lines, one is read after the other.

    Raises what reading the first bad file raises, in their order.
    """
    workers = 1 if any(".jsonl" in path.suffixes for path in files) else min(available_cores(), len(files))
    failed: list[int] = []
    if workers < 2:
        return [read(path, Turn(0, failed)) for path in files]

    def one(place: int) -> T:
        try:
            return read(files[place], Turn(place, failed))
        except BaseException:
            failed.append(place)
            raise

    with ThreadPoolExecutor(workers, "reading") as pool:
        try:
            return [found.result() for found in [pool.submit(one, place) for place in range(len(files))]]
        except BaseException:
            failed.append(-1)  # an interruption ends all
            raise
