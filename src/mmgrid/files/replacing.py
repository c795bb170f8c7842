"""Several files that replace older ones together: all of them are written before the first is put in its place."""

import contextlib
import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mmgrid.files.folder import PARTIAL_SUFFIX, remove_folder, sync_folder, sync_path

_HERE = -100  # AT_FDCWD: paths are relative to the working folder
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS


@contextlib.contextmanager
def replacing_folder(final: Path) -> Iterator[Path]:
    """An empty folder to fill, which then takes the place of `final` in one step; after an error `final` is unchanged.

    Everything in the old folder is removed. The folder above `final` must exist.
    """
    final = final.resolve()
    work = final.with_name(f".{final.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    work.mkdir()
    try:
        yield work
        sync_folder(work)
        if final.exists():
            _exchange(work, final)
            remove_folder(work)  # the old one
        else:
            work.rename(final)
        sync_path(final.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextlib.contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """An empty folder to fill with files, which are then moved to `folder` and replace those of the same names.

    After an error in between, no file is replaced. Other files in `folder` stay. It is created if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".{secrets.token_hex(4)}{PARTIAL_SUFFIX}"
    work.mkdir()
    try:
        yield work
        sync_folder(work)
        for path in sorted(work.iterdir()):
            path.replace(folder / path.name)
        sync_path(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _exchange(work: Path, final: Path) -> None:
    """Exchange two folders: in one step where the system can, else in two, of which the first is undone on an error."""
    if _exchanged_at_once(work, final):
        return
    old = final.with_name(f".{final.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    final.rename(old)
    try:
        work.rename(final)
    except OSError:
        old.rename(final)
        raise
    old.rename(work)


def _exchanged_at_once(one: Path, other: Path) -> bool:
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            return system.renameat2(_HERE, first, _HERE, second, _EXCHANGE) == 0
        return sys.platform == "darwin" and system.renamex_np(first, second, _EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):  # an older C library, another system
        return False
