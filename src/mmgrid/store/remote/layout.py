"""Where a cell lies in a remote store.

    remote.json                                                 the format of the place
    checkpoint/semb/books/phase1/3fa9c1d2/record.json           the record, written last
    checkpoint/semb/books/phase1/3fa9c1d2/5e0b…/model.safetensors

The folder of the files is named by the digest of all of them. Two machines that built one cell with other bytes so write
into two folders, and never mix their files; the first record says which of them is the cell.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from mmgrid.files.foreign import MALFORMED
from mmgrid.store.address import Address
from mmgrid.store.errors import CollisionError, DamagedRecordError, NewerRecordError
from mmgrid.store.places import names_version
from mmgrid.store.receiving import check_receivable
from mmgrid.store.record import RECORD_FILE, Record, of_newer, unknown_key
from mmgrid.store.remote.errors import RemoteError
from mmgrid.store.remote.place import Place

FORMAT = 1
FORMAT_FILE = "remote.json"
_DIGITS = 16
_BELOW = re.compile(rf"{re.escape(RECORD_FILE)}|[0-9a-f]{{{_DIGITS}}}")
_LARGEST_RECORD_BYTES = 64 << 20


@dataclass(frozen=True)
class Contents:
    """What a remote store holds: path → bytes, and the folders of its cells by name.

    cells: folder of a cell → whether it has a record. strangers: files that belong to no cell.
    """

    sizes: dict[str, int]
    cells: dict[str, bool]
    strangers: list[str]


def survey(place: Place, *, writing: bool = False) -> Contents:
    """What is there.

    writing: make a store of a place that is empty.

    Raises:
        RemoteError: it is no store of this format.
    """
    sizes = place.listing()
    if FORMAT_FILE not in sizes:
        if sizes:
            raise RemoteError(
                f"{place.shown}: is not a remote store (it holds {min(sizes)} and no {FORMAT_FILE}); give an empty or a new folder"
            )
        if not writing:
            raise RemoteError(f"{place.shown}: holds nothing; `mmgrid store push` fills it")
        place.create(FORMAT_FILE, json.dumps({"format": FORMAT}).encode())
    _check_format(place)
    cells: dict[str, bool] = {}
    strangers = []
    for path in sorted(sizes):
        folder = _cell_of(path)
        if folder is not None:
            cells[folder] = cells.get(folder, False) or path == f"{folder}/{RECORD_FILE}"
        elif path != FORMAT_FILE:
            strangers.append(path)
    return Contents(sizes, cells, strangers)


def _check_format(place: Place) -> None:
    try:
        found = json.loads(place.read(FORMAT_FILE, 0, 1 << 16))["format"]
    except (FileNotFoundError, *MALFORMED) as error:
        raise RemoteError(
            f"{place.shown}/{FORMAT_FILE}: cannot be read as the format of a remote store ({error!r})"
        ) from error
    if found != FORMAT:
        raise RemoteError(
            f"{place.shown}: this remote store has format {found}, and this version of mmgrid knows format {FORMAT}; use the "
            "version that made it. Nothing was changed"
        )


def _cell_of(path: str) -> str | None:
    """The folder of the cell that a file belongs to; None if it belongs to none."""
    parts = path.split("/")
    depths = [depth for depth, part in enumerate(parts[:-1]) if depth and names_version(part)]
    # A part of a cell's name may look like a version; that of a version is followed by its record or its files.
    for depth in sorted(depths, key=lambda depth: not _BELOW.fullmatch(parts[depth + 1])):
        try:
            return Address.of("/".join(parts[:depth]), parts[depth]).folder
        except ValueError:
            return None
    return None


def name_of(folder: str) -> str:
    """The readable name of a cell, by its folder."""
    return folder.rpartition("/")[0]


def files_folder(record: Record) -> str:
    """The folder of a cell's files in a remote store."""
    files = [(name, entry.sha256, entry.bytes) for name, entry in sorted(record.files.items())]
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return f"{record.address.folder}/{digest[:_DIGITS]}"


def read_record(place: Place, contents: Contents, folder: str) -> Record:
    """The record of a cell.

    Raises:
        HalfRecordError: it is no JSON, as the half of one.
        DamagedRecordError: it is none of this cell, or none that this version reads.
    """
    path, what = f"{folder}/{RECORD_FILE}", f"{place.shown}/{folder}/{RECORD_FILE}"
    size = contents.sizes.get(path, _LARGEST_RECORD_BYTES)
    if size > _LARGEST_RECORD_BYTES:
        raise DamagedRecordError(f"{what}: has {size:,} bytes, too many for a record")
    try:
        raw = place.read(path, 0, size)
    except FileNotFoundError as error:
        raise DamagedRecordError(f"{what}: is missing") from error
    try:
        record = Record.model_validate_json(raw)
    except ValidationError as error:
        if (key := unknown_key(error)) is not None:
            raise NewerRecordError(f"{what}: {of_newer(key)}") from error
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise HalfRecordError(f"{what}: is no whole record; `mmgrid store push` writes it again") from error
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedRecordError(f"{what}: cannot be read as a record ({where}: {first['msg']})") from error
    address = check_receivable(record)
    if address.folder != folder:
        raise DamagedRecordError(f"{what}: is the record of {address.folder}; somebody has moved it")
    return record


class HalfRecordError(DamagedRecordError):
    """A record is no JSON: its writing was cut off, or it was damaged."""


def check_same_cell(record: Record, address: Address, where: str) -> None:
    """Raises CollisionError if the record is that of another fingerprint with the same first digits."""
    if record.fingerprint != address.fingerprint:
        raise CollisionError(
            f"{address.folder}: {where} holds the fingerprint {record.fingerprint}, and {address.fingerprint} shares its first "
            "digits; use another place for the second one"
        )


def total_bytes(records: Iterable[Record]) -> int:
    """Bytes of the files of cells."""
    return sum(entry.bytes for record in records for entry in record.files.values())
