"""The native loops as Python functions: the shared library that `building` makes, loaded with ctypes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgrid.merging.kernels.building import LEVELS, LIBRARY, digest

# Name → number of arguments, each an address or a number of 64 bits.
_ARGUMENTS = {
    "merged": 5,
    "magnitudes": 3,
    "loaded": 3,
    "counted": 4,
    "products": 6,
    "distinct": 5,
    "ranked": 5,
    "variance": 4,
    "between": 5,
    "squares": 5,
    "agreed": 5,
}


class NoLibrary(Exception):  # noqa: N818
    """There is no library that can be used; the message says why."""


@dataclass(frozen=True)
class Loops:
    """The loops of `native/loops.c` at one level of instructions; each releases the interpreter lock.

    They take addresses and numbers, and return 32 bits.
    """

    level: str
    merged: Callable[..., int]
    magnitudes: Callable[..., int]
    loaded: Callable[..., int]
    counted: Callable[..., int]
    products: Callable[..., int]
    distinct: Callable[..., int]
    ranked: Callable[..., int]
    variance: Callable[..., int]
    between: Callable[..., int]
    squares: Callable[..., int]
    agreed: Callable[..., int]

    @property
    def rows_at_once(self) -> int:
        """Rows that are ranked side by side: SIDE in native/sorting.h."""
        return {"avx512": 16, "avx2": 8}.get(self.level, 4)


def load(path: Path = LIBRARY, level: str | None = None) -> Loops:
    """The loops in a library, by default at the highest level that this processor can run.

    Raises:
        NoLibrary: it is missing, damaged, or older than its sources; or the processor cannot run the level.
    """
    if sys.byteorder != "little":
        raise NoLibrary("the native loops need a processor with the least significant byte first")
    if not path.exists():
        raise NoLibrary(
            "the native loops were not built, because there was no C compiler; "
            "install one, then run: python -m mmgrid.merging.kernels.building"
        )
    try:
        library = ctypes.CDLL(str(path))
        library.mmgrid_digest.restype = ctypes.c_char_p
        built_from, highest = library.mmgrid_digest().decode(), library.mmgrid_level()
    except (OSError, AttributeError) as error:
        raise NoLibrary(f"{path}: cannot be loaded ({error}); install mmgrid again") from error
    if built_from != digest():
        raise NoLibrary(f"{path}: is older than its sources; run: python -m mmgrid.merging.kernels.building")
    runnable = list(LEVELS)[: highest + 1]
    level = level or runnable[-1]
    if level not in runnable:
        raise NoLibrary(f"this processor or compiler has no {level}; it has {', '.join(runnable)}")
    return Loops(level, **{name: _function(library, name, level, n) for name, n in _ARGUMENTS.items()})


def _function(library: ctypes.CDLL, name: str, level: str, n_arguments: int) -> Callable[..., int]:
    function = library[f"mmgrid_{name}_{level}"]
    function.argtypes, function.restype = [ctypes.c_int64] * n_arguments, ctypes.c_uint32
    return function
