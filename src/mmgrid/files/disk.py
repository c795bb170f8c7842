"""One clear error where a disk takes no more, whoever met it and however they put it.

A full disk shows as an OSError with a number in Python, as a sentence inside an error of its own type in
safetensors, polars and torch. `clear_disk_errors` reads them all and says what a person needs: what could
not be written, how much room is left, that published things are unharmed, and what to do.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up"}
_REFUSED = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
}
_FULL_PHRASES = {"no space left on device": errno.ENOSPC, "disk quota exceeded": errno.EDQUOT}
# torch.save reports a write that came short without saying why: taken as a full disk only if the disk is
# full.
_SHORT_WRITE_PHRASES = ("pytorchstreamwriter failed writing", "file write failed")
_ALMOST_FULL_BYTES = 1 << 20


class DiskFull(OSError):  # noqa: N818 - reads as what it is
    """There is no room (or no quota) left for what was to be written. `errno` is ENOSPC or EDQUOT."""


class NotWritableError(PermissionError):
    """The target may not be written: a read-only file system or missing rights. `errno` says which."""


@contextlib.contextmanager
def clear_disk_errors(path: Path, *, remedy: str = "choose another place") -> Iterator[None]:
    """Within this block a failure to write at `path` is raised as `DiskFull` or `NotWritableError`.

    Args:
        path: what is being written; it need not exist.
        remedy: what else a user can do, in the imperative, besides making room (or getting rights) there.

    A refused access to a file that has nothing to do with `path` (a source that cannot be read) passes as
    it is.
    """
    try:
        yield
    except (DiskFull, NotWritableError):
        raise
    except Exception as error:
        clear = _explain(error, path, remedy)
        if clear is None:
            raise
        raise clear from error


def _explain(error: BaseException, path: Path, remedy: str) -> OSError | None:
    for cause in _chain(error):
        number = _full_number(cause, path)
        if number is not None:
            full = DiskFull(
                f"{path}: could not be written: {_FULL[number]} ({_room(path)}). Nothing that was published "
                f"has been changed. Make room there or {remedy}, then run the same command again."
            )
            full.errno = number
            return full
    if isinstance(error, OSError) and error.errno in _REFUSED and _concerns(error, path):
        refused = NotWritableError(
            f"{path}: could not be written: {_REFUSED[error.errno]}. Nothing that was published has been "
            f"changed. Get the right to write there or {remedy}, then run the same command again."
        )
        refused.errno = error.errno
        return refused
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _full_number(error: BaseException, path: Path) -> int | None:
    if isinstance(error, OSError) and error.errno in _FULL:
        return error.errno
    text = str(error).lower()
    for phrase, number in _FULL_PHRASES.items():
        if phrase in text:
            return number
    if any(phrase in text for phrase in _SHORT_WRITE_PHRASES):
        free = _free_bytes(path)
        if free is not None and free < _ALMOST_FULL_BYTES:
            return errno.ENOSPC
    return None


def _concerns(error: OSError, path: Path) -> bool:
    """Whether the file that an error names is `path`, lies in it, above it, or in a sibling named after it."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    named, target = Path(error.filename).absolute(), path.absolute()
    if target.is_relative_to(named) or target == target.parent:
        return True
    if not named.is_relative_to(target.parent):
        return False
    beside = named.relative_to(target.parent).parts[0]
    return beside.removeprefix(".").startswith(target.name.removeprefix("."))  # its work folder, lock, partial


def _standing(path: Path) -> Path | None:
    """`path`, or the nearest folder above it that exists."""
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            place.stat()
            return place
    return None


def _free_bytes(path: Path) -> int | None:
    place = _standing(path)
    try:
        return None if place is None else shutil.disk_usage(place).free
    except OSError:
        return None


def _room(path: Path) -> str:
    free = _free_bytes(path)
    if free is None:
        return "free space unknown"
    text = f"{free / 2**20:,.1f} MiB free"
    place = _standing(path)
    # A file system can run out of inodes long before it runs out of bytes.
    if place is not None and hasattr(os, "statvfs"):
        status = os.statvfs(place)
        if status.f_files and not status.f_favail:
            text += ", but no room for one more file"
    return text
