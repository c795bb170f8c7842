"""Decides whether a merge uses the native loops: it does if there is a library, because both paths give the same bits.

`MMGRID_KERNELS` overrides the choice: "off" never uses the loops; "on" makes it an error that there are none.
"""

import functools
import logging
import os

from mmgrid.merging.errors import MergeError
from mmgrid.merging.kernels.building import LIBRARY
from mmgrid.merging.kernels.library import Loops, NoLibrary, load

log = logging.getLogger(__name__)

VARIABLE = "MMGRID_KERNELS"


def loops() -> Loops | None:
    """The native loops; None if there are none, or they are switched off.

    Raises:
        MergeError: there are none, and they are switched on.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off":
        return None
    found = _loaded()
    if isinstance(found, Loops):
        return found
    if wanted == "on":
        raise MergeError(f"{VARIABLE} is on, but {found}")
    return None


def standing() -> str:
    """How merges compute, for people: "native (avx2)", or "numpy" with the reason."""
    if os.environ.get(VARIABLE, "") == "off":
        return f"numpy ({VARIABLE} is off)"
    found = _loaded()
    return f"native ({found.level})" if isinstance(found, Loops) else f"numpy: {found}"


@functools.cache
def _loaded() -> Loops | NoLibrary:
    """The loops, or why there are none; a library that is there and cannot be used is a warning."""
    try:
        return load()
    except NoLibrary as error:
        if LIBRARY.exists():
            log.warning("merging does without native loops: %s", error)
        return error
