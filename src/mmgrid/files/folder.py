"""Folders and files that appear complete or not at all.

Nothing is written in place. A folder or file is written under a sibling name, synced to disk and renamed. The sibling
of a folder has a *stable* name (`<name>.work`), so that a process that was killed while filling it can resume its own
half-finished work.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORK_SUFFIX = ".work"
PARTIAL_SUFFIX = ".partial"
_GONE_INFIX = ".gone-"
_GONE_NAME = re.compile(r"\.gone-[0-9a-f]{8}$")
# Windows opens no folders, flushes only files that are open for writing, and renames onto nothing that exists.
_SYNCS_FOLDERS = hasattr(os, "O_DIRECTORY")
_SYNCS_FILES_AS = os.O_RDONLY if _SYNCS_FOLDERS else os.O_RDWR
_REPLACES_EMPTY_FOLDERS = _SYNCS_FOLDERS


def work_folder(final: Path) -> Path:
    """The path of the sibling in which `final` is prepared before it is published. Does not create it."""
    return final.with_name(final.name + WORK_SUFFIX)


def publish(work: Path, final: Path, *, last_file: str = "record.json", replace_leftover: bool = True) -> None:
    """Sync `work` to disk and rename it to `final`, so that `final` is complete or absent, even after a crash.

    Every file gets at least the permissions of `last_file`, since some libraries write files with mode 600.

    Args:
        last_file: the file that marks a folder as complete.
        replace_leftover: remove a folder at `final` that lacks `last_file`, such as an interrupted copy. False, for
            places that users own: only an empty folder may be there.

    Raises:
        FileExistsError: `final` exists and may not be replaced; `work` is left unchanged.
        FileNotFoundError: `work` lacks `last_file`.
    """
    if not (work / last_file).is_file():
        raise FileNotFoundError(f"{work}: cannot be published without its {last_file}")
    if final.is_symlink() or (final / last_file).exists():
        raise FileExistsError(f"{final}: exists already; published folders are never overwritten")
    _open_to_readers(work, (work / last_file).stat().st_mode)
    sync_folder(work)
    if replace_leftover and final.exists():
        remove_folder(final)
    try:
        if not _REPLACES_EMPTY_FOLDERS:
            with contextlib.suppress(OSError):
                final.rmdir()
        work.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(f"{final}: exists already and is not empty") from error
        raise
    sync_path(final.parent)


def _open_to_readers(folder: Path, rights: int) -> None:
    """Add the permission bits of `rights` to each file below `folder`. (The umask cannot be read without setting it.)"""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode | rights != mode:
                with contextlib.suppress(OSError):  # file systems without permissions
                    path.chmod(stat.S_IMODE(mode | rights))


def remove_folder(folder: Path) -> None:
    """Remove a folder. It is renamed first, so that no other process sees it half-removed."""
    gone = folder.with_name(f"{folder.name}{_GONE_INFIX}{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone)
        else:
            gone.unlink()


def move_up(folder: Path) -> None:
    """Move everything in `folder` into the folder that it is in, and remove it."""
    for path in folder.iterdir():
        path.rename(folder.parent / path.name)
    folder.rmdir()


def is_gone(path: Path) -> bool:
    """Whether `path` is left over from a killed `remove_folder`."""
    return _GONE_NAME.search(path.name) is not None


def is_partial(path: Path) -> bool:
    """Whether `path` is left over from a killed `write_bytes`, or from a killed replacement of a folder."""
    return path.name.startswith(".") and path.name.endswith(PARTIAL_SUFFIX)


def sync_folder(folder: Path) -> None:
    """fsync `folder` and every file and folder below it."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_path(Path(parent) / name)
        sync_path(Path(parent))


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file atomically; an existing one stays until the new one is on disk.

    sync: False for files that may be lost or damaged when the machine crashes; no process sees half of them either.
    """
    with replacing_file(path, data, sync=sync):
        pass


@contextlib.contextmanager
def replacing_file(path: Path, data: bytes, *, sync: bool = True) -> Iterator[None]:
    """Write a file beside `path` at once, and put it in its place at the end, unless there was an error.

    sync: as for `write_bytes`.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        yield
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if sync:
        sync_path(path.parent)


def write_json(path: Path, value: Any, *, sync: bool = True) -> None:
    """Write `value` atomically as indented JSON (UTF-8, keys in the given order).

    sync: as for `write_bytes`.

    Raises:
        ValueError: `value` holds NaN or an infinity.
        TypeError: `value` holds a type that JSON lacks.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n", sync=sync)


def sync_path(path: Path) -> None:
    """fsync a file or folder. Folders are skipped on systems and network file systems that do not support it."""
    if not _SYNCS_FOLDERS and path.is_dir():
        return
    descriptor = os.open(path, _SYNCS_FILES_AS)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)
