"""The layout of a store: names of folders and locks, and walking over cells without entering them."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from mmgrid.files.folder import WORK_SUFFIX, is_gone
from mmgrid.store.address import SHORT_DIGITS
from mmgrid.store.lock import LOCK_SUFFIX
from mmgrid.store.names import ASIDE_INFIX, RECORD_FILE, STORE_FILE, is_aside

LOGS_FOLDER = "logs"
DIGESTS_FILE = "digests.json"  # of the cache of digests of raw data
SEARCHES_FOLDER = "searches"  # of the numbers of merges
_SHORT = re.compile(rf"[0-9a-f]{{{SHORT_DIGITS}}}")


def names_version(text: str) -> bool:
    """Whether `text` is the short fingerprint that names a version's folder."""
    return _SHORT.fullmatch(text) is not None


def is_published(path: Path) -> bool:
    """Whether `path` is the folder of a built cell, sound or not: a record or folder may be a link that leads nowhere."""
    if not names_version(path.name):
        return False
    return os.path.lexists(f"{path}/{RECORD_FILE}") or (path.is_symlink() and not path.is_dir())


def aside_of(final: Path) -> Path:
    """A new name for a damaged cell's folder, under which it is kept."""
    return final.with_name(f"{final.name}{ASIDE_INFIX}{secrets.token_hex(4)}")


def lock_of(final: Path) -> Path:
    """The lock of the cell whose folder is, or will be, `final`."""
    return final.with_name(final.name + LOCK_SUFFIX)


def walk(root: Path) -> Iterator[Path]:
    """Everything in the store at `root`, sorted, except its logs and the contents of cells, work folders, and folders that
    were removed or set aside, and other stores that lie in it, whose cells are not its own."""
    for entry in _entries(root):
        if entry.name not in (LOGS_FOLDER, SEARCHES_FOLDER):  # no kind of cell has these names
            yield from _walk(entry)


def _walk(entry: os.DirEntry[str]) -> Iterator[Path]:
    path = Path(entry.path)
    yield path
    if entry.is_dir(follow_symlinks=False) and not (
        path.name.endswith(WORK_SUFFIX) or is_published(path) or is_gone(path) or is_aside(path)
    ):
        inside = _entries(path)
        if not any(below.name == STORE_FILE for below in inside):
            for below in inside:
                yield from _walk(below)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """As `listed`, with what the system tells of each entry without another look."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def listed(folder: Path) -> list[Path]:
    """The sorted entries of a folder; empty if another process has just removed it."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def delete(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
