"""Makes a cell in its work folder, and then its record, which says that the cell is finished."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmgrid.files import write_json
from mmgrid.files.digest import sha256_files
from mmgrid.files.folder import is_partial
from mmgrid.machine.clock import utc_now
from mmgrid.machine.memory import peak_bytes, reset_peak
from mmgrid.store.address import Address
from mmgrid.store.errors import StoreError
from mmgrid.store.lock import Lock
from mmgrid.store.record import RECORD_FILE, Record, installed_versions
from mmgrid.store.work import BUILDING_FILE, STEP_FOLDER, check_held

Make = Callable[[Path], Mapping[str, Any]]


def made(
    work: Path,
    address: Address,
    recipe: Mapping[str, Any],
    upstream: Mapping[str, Mapping[str, str]],
    make: Make,
    lock: Lock,
) -> Record:
    """The record of a cell that was made in its work folder; for the arguments, see `mmgrid.store.Store.build`.

    Raises:
        LockLostError: another process has taken over the lock.
        StoreError: the facts or the recipe are not JSON, or `make` wrote a file that belongs to the store.
        Exception: any error of `make`.
    """
    started, clock = utc_now(), time.monotonic()
    reset_peak()
    summary = make(work)
    seconds, peak = time.monotonic() - clock, peak_bytes()
    check_held(lock, address)
    _check_made(work)
    try:
        record = Record.model_validate(
            {
                "name": address.name,
                "fingerprint": address.fingerprint,
                "recipe": dict(recipe),
                "upstream": {role: dict(cell) for role, cell in upstream.items()},
                "versions": dict(installed_versions()),
                "seconds": round(seconds, 3),
                "peak_bytes": peak,
                "started": started,
                "finished": utc_now(),
                "files": sha256_files(work, skip=(STEP_FOLDER, BUILDING_FILE)),
                "summary": dict(summary or {}),
            }
        )
        write_json(work / RECORD_FILE, record.model_dump(mode="json"))
    except (ValidationError, ValueError, TypeError) as error:
        raise StoreError(f"{address.name}: its recipe, upstream or facts are not plain JSON: {error}") from error
    return record


def _check_made(work: Path) -> None:
    """Remove partial files of interrupted writes, and check that the store's own files are untouched."""
    if (work / RECORD_FILE).exists() or not (work / BUILDING_FILE).exists():
        raise StoreError(
            f"{work}: {RECORD_FILE} and {BUILDING_FILE} belong to the store; a cell must not write or remove them"
        )
    for parent, _, names in os.walk(work):
        for name in names:
            if is_partial(Path(parent) / name):
                (Path(parent) / name).unlink()
