"""Folders and files that appear whole or not at all.

What is read by others is never written in place. A folder is filled under a sibling name, brought to the
disk, and renamed; a file likewise. The sibling of a folder has a *stable* name (`<name>.work`), so that
whoever was killed while filling it finds their own half-finished work again and can go on from there.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from typing import Any

WORK_SUFFIX = ".work"
_PARTIAL_SUFFIX = ".partial"
_GONE_INFIX = ".gone-"
_GONE_NAME = re.compile(r"\.gone-[0-9a-f]{8}$")


def work_folder(final: Path) -> Path:
    """The sibling under which `final` is filled before it is published. Names it; does not make it."""
    return final.with_name(final.name + WORK_SUFFIX)


def publish(work: Path, final: Path, *, last_file: str = "record.json", replace_leftover: bool = True) -> None:
    """Bring `work` to the disk and rename it to `final`, so that `final` is whole or absent, even after a crash.

    `last_file` is the file that makes a folder count. What stands under the final name without it is the
    leftover of someone who did not write this way (a copy that was cut off, say) and is removed first.
    Outside of folders that are all our own, `replace_leftover=False` holds: only an empty folder may be
    there. Every file gets the rights that the umask gave `last_file`: some libraries write files of mode 600.

    Raises:
        FileExistsError: `final` is there and may not be replaced; `work` is left as it is.
        FileNotFoundError: `work` lacks `last_file`.
    """
    if not (work / last_file).is_file():
        raise FileNotFoundError(f"{work}: cannot be published without its {last_file}")
    if final.is_symlink() or (final / last_file).exists():
        raise FileExistsError(f"{final}: is there already; what is published is never overwritten")
    _open_to_readers(work, (work / last_file).stat().st_mode)
    sync_folder(work)
    if replace_leftover and final.exists():
        remove_folder(final)
    try:
        work.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(f"{final}: is there already and not empty") from error
        raise
    _sync(final.parent)


def _open_to_readers(folder: Path, rights: int) -> None:
    """Add the bits of `rights` to each file below `folder`; the process's umask cannot be read without setting it."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode | rights != mode:
                with contextlib.suppress(OSError):  # a file system without rights of its own
                    path.chmod(stat.S_IMODE(mode | rights))


def remove_folder(folder: Path) -> None:
    """Remove a folder: first renamed away at one stroke, so that nobody meets it half-removed."""
    gone = folder.with_name(f"{folder.name}{_GONE_INFIX}{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone)
        else:
            gone.unlink()


def is_gone(path: Path) -> bool:
    """Whether `path` is what a killed `remove_folder` left over."""
    return _GONE_NAME.search(path.name) is not None


def is_partial(path: Path) -> bool:
    """Whether `path` is what a killed `write_bytes` left over."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL_SUFFIX)


def sync_folder(folder: Path) -> None:
    """Bring every file and folder below `folder`, and `folder` itself, to the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that is whole or absent; one that was there stays until the new one is on the disk."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL_SUFFIX}")
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON (UTF-8, keys in the given order), whole or not at all.

    Raises:
        ValueError: `value` holds NaN or an infinity, which JSON does not have.
        TypeError: `value` holds something that JSON does not have.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def _sync(path: Path) -> None:
    """fsync a file or folder. Some network file systems know no fsync of folders: there it is left out."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)
