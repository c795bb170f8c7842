"""Names that a store keeps for itself: by them it knows what it has written, and what is left over."""

import re
from functools import lru_cache
from pathlib import Path

from mmgrid.files.folder import WORK_SUFFIX, is_gone
from mmgrid.store.lock import LOCK_SUFFIX, is_debris

STORE_FILE = "store.json"
RECORD_FILE = "record.json"
FAILURE_FILE = "failed.json"
ASIDE_INFIX = ".damaged-"
_ASIDE_NAME = re.compile(rf"{re.escape(ASIDE_INFIX)}[0-9a-f]{{8}}$")


def is_aside(path: Path) -> bool:
    """Whether `path` is a damaged cell that was set aside."""
    return _ASIDE_NAME.search(path.name) is not None


@lru_cache(maxsize=1 << 16)  # a grid has thousands of cells, and few names
def check_not_kept(part: str) -> None:
    """Check that a part of a cell's name is none that the store would take for its own work, lock or leftover.

    Raises:
        ValueError: it is one.
    """
    path = Path(part)
    is_file = part in (STORE_FILE, RECORD_FILE, FAILURE_FILE)
    if is_file or part.endswith((WORK_SUFFIX, LOCK_SUFFIX)) or is_gone(path) or is_aside(path) or is_debris(path):
        raise ValueError(f"{part!r}: a store keeps such names for itself; choose another one")
