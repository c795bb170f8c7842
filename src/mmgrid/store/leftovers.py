"""What is left in a store: abandoned work folders, stale locks, half-removed folders, damaged cells set aside.

A work folder may hold the step checkpoints from which the next run would resume, so leftovers are only removed on
request.
"""

from pathlib import Path

from mmgrid.files import clear_disk_errors, remove_folder
from mmgrid.files.folder import WORK_SUFFIX, is_gone, is_partial
from mmgrid.store.errors import StoreError
from mmgrid.store.lock import LOCK_SUFFIX, is_debris, is_live, try_lock
from mmgrid.store.places import delete, is_aside, listed, lock_of, names_version, walk


def leftovers(root: Path) -> list[Path]:
    """The leftovers below a store's root, sorted; files that a living process uses are not among them."""
    return sorted(path for path in walk(root) if _is_temporary(path) and not _is_in_use(path))


def discard(root: Path, leftover: Path) -> bool:
    """Remove one of `leftovers(root)`; returns False if a process uses it again by now.

    Raises:
        StoreError: it is not a leftover of this store.
        NotWritableError: it may not be removed.
    """
    if not leftover.is_relative_to(root) or ".." in leftover.parts or not _is_temporary(leftover):
        if leftover.exists():
            raise StoreError(f"{leftover}: is not a leftover of the store {root}; it was not touched")
        return True
    with clear_disk_errors(leftover, remedy="let its owner do it", removing=True):
        if not _has_lock(leftover):
            delete(leftover)
            return True
        if not leftover.exists():
            return True
        lock = try_lock(_lock_of_leftover(leftover))
        if lock is None:
            return False
        with lock:
            if leftover.name.endswith(WORK_SUFFIX):
                remove_folder(leftover)
        return True


def _is_temporary(path: Path) -> bool:
    """Whether the path has the form of a temporary file or folder, in use or not."""
    if is_gone(path) or is_debris(path) or is_partial(path) or is_aside(path):
        return True
    if _has_lock(path):
        return names_version(_version_of(path))
    # An empty version folder: somebody copied a store without its files.
    return names_version(path.name) and path.is_dir() and not path.is_symlink() and not listed(path)


def _is_in_use(path: Path) -> bool:
    return _has_lock(path) and is_live(_lock_of_leftover(path))


def _has_lock(path: Path) -> bool:
    return path.name.endswith((WORK_SUFFIX, LOCK_SUFFIX))


def _lock_of_leftover(leftover: Path) -> Path:
    """The lock of the cell that a work folder or a lock belongs to."""
    return lock_of(leftover.with_name(_version_of(leftover)))


def _version_of(leftover: Path) -> str:
    return leftover.name.partition(".")[0]
