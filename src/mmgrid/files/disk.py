"""One clear error for a full disk or missing rights, whichever library ran into it.

A full disk is an OSError with a number in Python, but only a phrase within some other error in safetensors, polars and
torch. `clear_disk_errors` recognises all of them. Its message says what could not be written, how much room is left,
that published data is intact, and what to do.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmgrid.files.limits import limit_reached

FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up"}
_REFUSED = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
}
_FULL_PHRASES = {
    "no space left on device": errno.ENOSPC,
    "not enough space on the disk": errno.ENOSPC,  # Windows
    "disk quota exceeded": errno.EDQUOT,
}
# A short write, without a reason; it counts as a full disk only if the disk is in fact full.
_SHORT_WRITE_PHRASES = ("pytorchstreamwriter failed writing", "file write failed")
# Of torch.save, and of Polars in the footer of a parquet file. Only a write says so, and what was written of it may be
# removed already, so the room that is left tells nothing.
_CUT_SHORT_PHRASES = (
    "inline_container.cc",
    "basic_ios::clear: iostream error",
    "invalid thrift: transport error",
)
_TOO_LARGE_PHRASE = "file too large"
# numpy reports one in elements, whatever the disk: nothing else makes a write to a file short.
_NUMPY_SHORT_WRITE = re.compile(r"(\d+) requested and (\d+) written")
_ALMOST_FULL_BYTES = 1 << 20


class DiskFull(OSError):  # noqa: N818 - the name says enough
    """No room, or no quota, is left for the write. `errno` is ENOSPC or EDQUOT."""


class NotWritableError(PermissionError):
    """The target is not writable: read-only file system or missing rights. `errno` tells which."""


@contextlib.contextmanager
def clear_disk_errors(path: Path, *, remedy: str = "choose another place", removing: bool = False) -> Iterator[None]:
    """Within this context, a failure to write at `path` is raised as `DiskFull` or `NotWritableError`, as
    FileNotFoundError if nothing can be there, or as OSError if a file may not be so large.

    The message says that nothing published has been changed, so whatever is written in here must be published at the
    end, and at once.

    Errors about files unrelated to `path`, such as an unreadable source, pass unchanged.

    Args:
        path: the file or folder that is being written; it need not exist.
        remedy: an alternative to making room (or getting rights), in the imperative, for the message.
        removing: `path` is removed and not written, perhaps one file after the other.
    """
    try:
        yield
    except (DiskFull, NotWritableError):
        raise
    except Exception as error:
        clear = _explain(error, path, remedy, removing)
        if clear is None:
            raise
        raise clear from error


def _explain(error: BaseException, path: Path, remedy: str, removing: bool) -> OSError | None:
    failed = "could not be removed" if removing else "could not be written"
    intact = "" if removing else " Nothing that was published has been changed."
    for cause in chain(error):
        number = _full_number(cause, path)
        if number is not None:
            full = DiskFull(
                f"{path}: {failed}: {FULL[number]} ({_room(path)}).{intact} Make room there or "
                f"{remedy}, then run the same command again."
            )
            full.errno = number
            return full
        if _is_too_large(cause):
            large = OSError(
                f"{path}: {failed}: a file would be larger than the file system (4 GiB on FAT32) or `ulimit -f` "
                f"allows.{intact} Allow more or {remedy}, then run the same command again."
            )
            large.errno = errno.EFBIG
            return large
    if (reached := limit_reached(error)) is not None and isinstance(error, OSError):
        limited = OSError(reached)
        limited.errno = error.errno
        return limited
    if isinstance(error, OSError) and error.errno in _REFUSED and _is_about(error, path):
        refused = NotWritableError(
            f"{path}: {failed}: {_REFUSED[error.errno]}.{intact} Get the right to write there or "
            f"{remedy}, then run the same command again."
        )
        refused.errno = error.errno
        return refused
    if isinstance(error, OSError) and (why := _no_place(error, path)):
        other = FileNotFoundError(f"{path}: {failed}: {why}")
        other.errno = error.errno
        return other
    return None


def _no_place(error: OSError, path: Path) -> str | None:
    """Why nothing can be at `path` at all; None if the error does not tell."""
    above = path.absolute().parent
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not above.is_dir():
        there = _nearest_existing(above)
        is_file = there is not None and not there.is_dir()
        return f"{there} is a file; choose another place" if is_file else f"there is no folder {above}; create it"
    if error.errno == errno.EISDIR and path.is_dir():
        return "a folder is there; name a file"
    if error.errno == errno.ENAMETOOLONG and _is_about(error, path):
        return "the name is too long; choose a shorter one"
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, the error that it was raised from, and so on."""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _full_number(error: BaseException, path: Path) -> int | None:
    if isinstance(error, OSError) and error.errno in FULL:
        return error.errno
    text = str(error).lower()
    if isinstance(error, OSError) and (found := _NUMPY_SHORT_WRITE.fullmatch(text)) and found[1] != found[2]:
        return errno.ENOSPC
    for phrase, number in _FULL_PHRASES.items():
        if phrase in text:
            return number
    if not isinstance(error, ValueError) and any(phrase in text for phrase in _CUT_SHORT_PHRASES):
        return errno.ENOSPC
    if any(phrase in text for phrase in _SHORT_WRITE_PHRASES):
        free = _free_bytes(path)
        if free is not None and free < _ALMOST_FULL_BYTES:
            return errno.ENOSPC
    return None


def _is_too_large(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.EFBIG
    return _TOO_LARGE_PHRASE in str(error).lower() and not isinstance(error, ValueError)


def _is_about(error: OSError, path: Path) -> bool:
    """Whether the error's file is `path`, lies in it or above it, or in a sibling named after it."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    named, target = Path(error.filename).absolute(), path.absolute()
    if target.is_relative_to(named) or target == target.parent:
        return True
    if not named.is_relative_to(target.parent):
        return False
    sibling = named.relative_to(target.parent).parts[0]  # perhaps its work folder, lock or partial file
    return sibling.removeprefix(".").startswith(target.name.removeprefix("."))


def _nearest_existing(path: Path) -> Path | None:
    """`path`, or the nearest folder above it that exists."""
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            place.stat()
            return place
    return None


def _free_bytes(path: Path) -> int | None:
    place = _nearest_existing(path)
    try:
        return None if place is None else shutil.disk_usage(place).free
    except OSError:
        return None


def _room(path: Path) -> str:
    free = _free_bytes(path)
    if free is None:
        return "free space unknown"
    text = f"{free / 2**20:,.1f} MiB free"
    place = _nearest_existing(path)
    # A file system can run out of inodes long before it runs out of bytes.
    if place is not None and hasattr(os, "statvfs"):
        status = os.statvfs(place)
        if status.f_files and not status.f_favail:
            text += ", but no room for one more file"
    return text
