"""The folder in which a cell is built, and what happens in it when the lock of the cell is taken over.

Its stable name is `<version>.work`, so the next attempt finds the step checkpoints of the one before. Who takes a lock
over from a process that may only be asleep renames the folder first, to `<version>.<token>.work`. The paths of the
process that wakes up then lead nowhere, its own renaming to the final name fails, and it publishes nothing.

The record is written there when all else is made. So a folder whose record fits it is finished, and lacks only its
name: its step checkpoints may be gone by then, and to make it again would be to begin again.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mmgrid.files import remove_folder, work_folder, write_json
from mmgrid.files.folder import WORK_SUFFIX, is_gone, is_partial
from mmgrid.store.address import Address
from mmgrid.store.errors import LockLostError, StoreError
from mmgrid.store.integrity import Inspector
from mmgrid.store.lock import Lock
from mmgrid.store.places import aside_of, delete, listed
from mmgrid.store.record import RECORD_FILE, Record

BUILDING_FILE = "building.json"
STEP_FOLDER = "step"
_TOKEN_DIGITS = 8

Progress = Callable[[int, int, float | None], None]


def open_work(final: Path, address: Address, lock: Lock) -> tuple[Path, Record | None]:
    """The work folder for `final`, and its record if an earlier attempt has finished it.

    Otherwise it is empty except for its mark and the step checkpoints of the same fingerprint.
    """
    token = lock.holder.token[:_TOKEN_DIGITS]
    left = _left(final)
    renamed = [path for path in left if path != work_folder(final)]
    work = final.with_name(f"{final.name}.{token}{WORK_SUFFIX}") if lock.contested or renamed else work_folder(final)
    for path in (*renamed, *left):  # what was taken over last has what is worth keeping
        check_held(lock, address)  # or these are the folders of who has taken over
        with contextlib.suppress(FileNotFoundError):  # its owner, who may be awake, has just published it
            if _fingerprint(path) == address.fingerprint and not work.exists():
                path.rename(work)
            elif path != work:
                remove_folder(path)
    if work.exists() and _fingerprint(work) != address.fingerprint:
        remove_folder(work)
    work.mkdir(exist_ok=True)
    record = _finished(work, address)
    if record is None:
        for path in listed(work):
            if path.name not in (STEP_FOLDER, BUILDING_FILE):
                delete(path)
        write_json(work / BUILDING_FILE, {"name": address.name, "fingerprint": address.fingerprint, "token": token})
    return work, record


def strip(work: Path) -> None:
    """Remove what is not published: the mark, the step checkpoints, and what is left of removing or writing them.

    The step checkpoints go at one stroke, as half of one might be taken for a whole one.
    """
    for path in listed(work):
        if path.name in (STEP_FOLDER, BUILDING_FILE) or is_gone(path) or is_partial(path):
            remove_folder(path)


def watched(work: Path, progress: Progress | None) -> Progress:
    """`progress`, which also raises LockLostError once another process has taken over what is built in `work`."""
    ours = _mark(work)

    def report(step: int, steps: int, loss: float | None) -> None:
        if _mark(work) != ours:
            raise LockLostError(f"{work}: another process has taken over this cell")
        if progress is not None:
            progress(step, steps, loss)

    return report


def check_held(lock: Lock, address: Address) -> None:
    """Raises LockLostError if the lock was taken over."""
    if not lock.held():
        raise LockLostError(
            f"{address.folder}: its lock was taken over by another process while it was being built here (this one "
            "may have been suspended, or cut off from the store); nothing was published from here. Run again once that "
            "process has ended."
        )


def put_aside(final: Path, lock: Lock) -> Path | None:
    """Rename a damaged cell, so that it counts as missing; returns its new path.

    None if the lock was taken over: then the cell may have been built again meanwhile, and has its name back.
    """
    if not lock.held():
        return None
    aside = aside_of(final)
    final.rename(aside)
    if lock.held():
        return aside
    with contextlib.suppress(OSError):  # a third process has built it by now
        aside.rename(final)
    return None


@contextlib.contextmanager
def losing(lock: Lock, address: Address) -> Iterator[None]:
    """Any error within is a LockLostError where the lock was lost: its folder was renamed while it was used."""
    try:
        yield
    except Exception as error:
        try:
            check_held(lock, address)
        except LockLostError as lost:
            raise lost from error
        raise


def _left(final: Path) -> list[Path]:
    """The work folders of one version, those of the newest attempts first."""
    form = re.compile(rf"{re.escape(final.name)}(\.[0-9a-f]{{{_TOKEN_DIGITS}}})?{re.escape(WORK_SUFFIX)}")
    found = [path for path in listed(final.parent) if form.fullmatch(path.name)]
    return sorted(found, key=_changed, reverse=True)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _finished(work: Path, address: Address) -> Record | None:
    """The record of a cell that was finished in `work` and not published; None if it is not there, or does not fit."""
    try:
        record = Record.read(work)
    except (FileNotFoundError, StoreError):
        return None
    ours = record.name == address.name and record.fingerprint == address.fingerprint
    return record if ours and not Inspector().problems(work, record) else None


def _mark(work: Path) -> bytes:
    try:
        return (work / BUILDING_FILE).read_bytes()
    except FileNotFoundError:
        return b""


def _fingerprint(work: Path) -> str | None:
    """Of the cell in a work folder: by its mark, or by its record once the mark is removed."""
    for name in (BUILDING_FILE, RECORD_FILE):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            return str(json.loads((work / name).read_bytes())["fingerprint"])
    return None
