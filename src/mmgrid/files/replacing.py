"""Several files that replace older ones together: all of them are written before the first is put in its place.

They are written into a folder beside, which the process claims (see `mmgrid.machine.claim`). What a killed process has left
of it is removed by the next replacement of the same folder; a folder that is claimed is somebody's work and stays.
"""

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mmgrid.files.folder import PARTIAL_SUFFIX, remove_folder, sync_folder, sync_path
from mmgrid.machine.claim import claimed

_HERE = -100  # AT_FDCWD: paths are relative to the working folder
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS


@contextlib.contextmanager
def replacing_folder(final: Path) -> Iterator[Path]:
    """An empty folder to fill, which then takes the place of `final` in one step; after an error `final` is unchanged.

    Everything in the old folder is removed. The folder above `final` must exist.
    """
    final = final.resolve()
    beside, prefix = final.parent, f".{final.name}."
    if final.exists():  # otherwise what is left may be all that there is of it, see `_exchange`
        _clear_stale(beside, prefix)
    with _claimed_work(beside, prefix) as work:
        try:
            yield work
            sync_folder(work)
            if final.exists():
                _exchange(work, final)
                remove_folder(work)  # the old one
            else:
                work.rename(final)
            sync_path(beside)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    _clear_stale(beside, prefix)


@contextlib.contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """An empty folder to fill with files, which are then moved to `folder` and replace those of the same names.

    After an error in between, no file is replaced. Other files in `folder` stay. It is created if it is missing, and does
    not stay empty.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    _clear_stale(folder, ".")
    try:
        with _claimed_work(folder, ".") as work:
            try:
                yield work
                sync_folder(work)
                for path in sorted(work.iterdir()):
                    path.replace(folder / path.name)
                sync_path(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


@contextlib.contextmanager
def _claimed_work(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder for this process alone, whose name has a random part."""
    while True:
        work = folder / f"{prefix}{secrets.token_hex(4)}{PARTIAL_SUFFIX}"
        work.mkdir()
        with _claim(work) as ours:
            if ours:  # otherwise another process takes it for a stale one, just now
                yield work
                return


@contextlib.contextmanager
def _claim(work: Path) -> Iterator[bool]:
    with contextlib.ExitStack() as stack:
        try:
            ours = stack.enter_context(claimed(work))
        except FileNotFoundError:
            ours = False
        except OSError:  # a file system without locks, where nobody claims it, and so nobody removes it
            ours = True
        yield ours


def _clear_stale(folder: Path, prefix: str) -> None:
    """Remove what killed processes have left in `folder`. What cannot be claimed, or removed, stays."""
    form = re.compile(rf"{re.escape(prefix)}[0-9a-f]{{8}}{re.escape(PARTIAL_SUFFIX)}(?:\.gone-[0-9a-f]{{8}})?")
    with contextlib.suppress(OSError):
        for path in [path for path in folder.iterdir() if form.fullmatch(path.name)]:
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError), claimed(path) as ours:
                    if ours:
                        shutil.rmtree(path, ignore_errors=True)


def _exchange(work: Path, final: Path) -> None:
    """Exchange two folders: in one step where the system can, else in two, of which the first is undone on an error."""
    if _exchanged_at_once(work, final):
        return
    old = final.with_name(f".{final.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    with _claim(final):
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
