"""Takes over a cell that another store has built: its files are fetched into the work folder, and compared with its record.

What has arrived lies in `step/received`, which the next attempt finds, so that it goes on where this one ended.
"""

from collections.abc import Callable
from pathlib import Path

from mmgrid.files import inside, write_json
from mmgrid.files.folder import is_gone, is_partial
from mmgrid.store.address import Address
from mmgrid.store.errors import DamagedRecordError
from mmgrid.store.integrity import DamagedFilesError, Inspector
from mmgrid.store.names import RECORD_FILE
from mmgrid.store.places import DIGESTS_FILE, LOGS_FOLDER, SEARCHES_FOLDER, delete, is_published, walk
from mmgrid.store.record import Record
from mmgrid.store.work import BUILDING_FILE, STEP_FOLDER

RECEIVED_FOLDER = "received"

_NO_KINDS = {DIGESTS_FILE, LOGS_FOLDER, SEARCHES_FOLDER}

Fetch = Callable[[Path], None]


def check_receivable(record: Record) -> Address:
    """The address of a record from elsewhere, whose files can stand in one folder beside it.

    Raises:
        DamagedRecordError: its name or a file's is none that a store writes.
    """
    try:
        address = record.address
    except ValueError as error:
        raise DamagedRecordError(f"a record with the name {record.name!r}: {error}") from error
    if address.kind in _NO_KINDS:
        raise DamagedRecordError(f"a record with the name {record.name!r}: a store keeps such names for itself")
    for relative in record.files:
        parts = relative.split("/")
        if parts[0] in (STEP_FOLDER, BUILDING_FILE, RECORD_FILE) or not all(map(_is_plain, parts)):
            raise DamagedRecordError(f"{address.name}: its record names a file {relative!r}, which no cell may hold")
        if any("/".join(parts[:depth]) in record.files for depth in range(1, len(parts))):
            raise DamagedRecordError(f"{address.name}: its record names {relative!r}, which lies in a file")
    return address


def check_place(root: Path, final: Path, address: Address) -> None:
    """Check that a cell from elsewhere stands in no cell of the store at `root`, and in the place of none.

    A part of a name may look like the folder of a version: eight digits, as of a date.

    Raises:
        DamagedRecordError: it would.
    """
    above = [path for path in final.parents if path.is_relative_to(root) and is_published(path)]
    below = [] if is_published(final) else [path for path in walk(final) if is_published(path)]
    for other in (*above, *below):
        raise DamagedRecordError(f"a record with the name {address.name!r}: {other} is a cell of this store")


def _is_plain(part: str) -> bool:
    """Whether a part of a path names a file or a folder within, everywhere."""
    path = Path(part)
    return part not in ("", ".", "..") and ":" not in part and not is_partial(path) and not is_gone(path)


def received(work: Path, address: Address, record: Record, fetch: Fetch) -> Record:
    """The record, after its files and then itself were put into the work folder.

    fetch: makes each file of the record in the given folder, which may hold files, or beginnings of them, of an earlier call.

    Raises:
        DamagedFilesError: files that were fetched are not those of the record. They are removed, the others stay.
    """
    arrived = work / STEP_FOLDER / RECEIVED_FOLDER
    arrived.mkdir(parents=True, exist_ok=True)
    fetch(arrived)
    inspector = Inspector()
    found = {name: inspector.problems(arrived, record, only=(name,)) for name in record.files}
    damaged = {name: problems[0] for name, problems in found.items() if problems}
    if damaged:
        for name in damaged:
            delete(inside(arrived, name))
        raise DamagedFilesError(address, list(damaged.values()), "fetch it again")
    for name in record.files:
        target = inside(work, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        inside(arrived, name).rename(target)
    try:
        write_json(work / RECORD_FILE, record.model_dump(mode="json"))
    except ValueError as error:
        raise DamagedRecordError(f"{address.name}: its record holds what JSON cannot ({error})") from error
    return record
