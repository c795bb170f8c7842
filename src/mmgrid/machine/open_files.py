"""Files that are read at many places by many threads: few of them stay open, however many there are.

A model may consist of hundreds of shards, and a merge read dozens of models, where a process may often open 256 files.
"""

import contextlib
import itertools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from mmgrid.machine.positioned import open_to_read

try:
    import resource
except ImportError:  # Windows has none
    resource = None

_FEWEST, _MOST = 8, 4096
_USUAL_LIMIT = 512  # of the C library of Windows
_LARGEST_LIMIT = 1 << 16


def raise_limit() -> None:
    """Let this process, and those that it starts, open as many files as its user may."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _LARGEST_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LARGEST_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class OpenFiles:
    """Descriptors for reading; the one that was used longest ago is closed when there would be too many."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()  # owner and number of the file → descriptor
        self._readers: dict[tuple[int, int], int] = {}
        self._lock = threading.RLock()  # an owner may vanish, and close its files, while this thread holds it
        self._owners: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def reading(self, owner: object, number: int, file: Path) -> Iterator[int]:
        """A descriptor of `file`, which stays open within this context.

        Args:
            owner, number: name the descriptor, until the owner is closed or gone.
        """
        with self._lock:
            if owner not in self._owners:
                self._owners[owner] = next(self._numbers)
                weakref.finalize(owner, self._close, self._owners[owner])
            key = (self._owners[owner], number)
            if key not in self._open:
                self._make_room()
                self._open[key] = open_to_read(file)
            self._open.move_to_end(key)
            self._readers[key] = self._readers.get(key, 0) + 1
            descriptor = self._open[key]
        try:
            yield descriptor
        finally:
            with self._lock:
                self._readers[key] -= 1

    def close(self, owner: object) -> None:
        """Close the files of an owner, which nobody reads any more."""
        with self._lock:
            if owner in self._owners:
                self._close(self._owners[owner])

    def _close(self, owner: int) -> None:
        with self._lock:
            for key in [key for key in self._open if key[0] == owner]:
                self._readers.pop(key, None)
                os.close(self._open.pop(key))

    def _make_room(self) -> None:
        idle = [key for key in self._open if not self._readers.get(key)]
        for key in idle[: max(len(self._open) + 1 - most_open(), 0)]:
            self._readers.pop(key, None)
            os.close(self._open.pop(key))


def most_open() -> int:
    """How many files that are read stay open: a third of what this process may open."""
    limit = _USUAL_LIMIT if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST if limit < 0 else min(max(limit // 3, _FEWEST), _MOST)


OPEN_FILES = OpenFiles()
"""Those of this process."""
