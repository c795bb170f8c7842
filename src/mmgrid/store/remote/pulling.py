"""Fetches cells of a remote store into a store, which publishes them as it does its own."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmgrid.files import inside
from mmgrid.store.address import Address
from mmgrid.store.errors import DamagedRecordError, StoreError
from mmgrid.store.integrity import DamagedFilesError
from mmgrid.store.places import is_published
from mmgrid.store.record import Record
from mmgrid.store.remote.content import wrong_sizes
from mmgrid.store.remote.layout import (
    Contents,
    check_same_cell,
    files_folder,
    name_of,
    read_record,
    survey,
    total_bytes,
)
from mmgrid.store.remote.place import BLOCK_BYTES, Place
from mmgrid.store.remote.pushing import Moved
from mmgrid.store.remote.transfers import Transfers
from mmgrid.store.store import Store

Check = Callable[[Record], str | None]


def pull(
    store: Store,
    place: Place,
    wanted: Callable[[str], bool],
    *,
    cells: Collection[Address] | None = None,
    check: Check = lambda record: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Moved:
    """Fetch cells that are missing here, or are damaged here.

    A call goes on where one before it ended, within a file, too.

    Args:
        store: where they are published.
        place: of the remote store.
        wanted: whether to fetch a cell, by its readable name.
        cells: no others than these.
        check: what is wrong with a record, beyond its form; such a cell is not fetched.
        progress: called with bytes, and bytes in all.

    Raises:
        RemoteError: the remote store cannot be read, or is none.
        DiskFull, NotWritableError: the store cannot be written.
    """
    contents = survey(place)
    asked = None if cells is None else {address.folder: address for address in cells}
    folders = [
        folder
        for folder, published in contents.cells.items()
        if published and wanted(name_of(folder)) and (asked is None or folder in asked)
    ]
    present, missing, problems = _sorted_out(store, folders, asked or {})
    with Transfers[str, Record](lambda done: None) as reading:
        records, unread = reading.of_cells(missing, partial(read_record, place, contents))
    problems |= unread
    for folder, record in list(records.items()):
        try:
            if asked is not None:
                check_same_cell(record, asked[folder], place.shown)
            if problem := check(record):
                raise DamagedRecordError(f"{place.shown}/{folder}/{problem}")
        except StoreError as error:
            problems[folder] = str(error)
            del records[folder]
    total = total_bytes(records.values())
    with Transfers[str, bool](lambda done: progress(done, total)) as transfers:
        puller = _Puller(store, place, contents, transfers)
        found, failed = transfers.of_cells(records, lambda folder: puller.pull(records[folder]))
    done = [folder for folder, arrived in found.items() if arrived]
    return Moved(
        done=[name_of(folder) for folder in done],
        present=[name_of(folder) for folder in present],
        busy=[name_of(folder) for folder, arrived in found.items() if not arrived],
        problems=problems | failed,
        bytes=total_bytes(records[folder] for folder in done),
    )


def _sorted_out(
    store: Store, folders: Iterable[str], asked: Mapping[str, Address]
) -> tuple[list[str], list[str], dict[str, str]]:
    """The cells that are here, those that are not, and what is wrong with others."""
    present, missing, problems = [], [], {}
    for folder in folders:
        try:
            (present if _is_here(store, folder, asked.get(folder)) else missing).append(folder)
        except StoreError as error:
            problems[folder] = str(error)
    return present, missing, problems


def _is_here(store: Store, folder: str, address: Address | None) -> bool:
    place = store.root / folder
    if not is_published(place):
        return False
    try:
        return store.has(address or Record.read(place).address)
    except DamagedFilesError:  # it is set aside, and fetched
        return False


@dataclass(frozen=True)
class _Puller:
    store: Store
    place: Place
    contents: Contents
    transfers: Transfers[str, bool]

    def pull(self, record: Record) -> bool:
        """Fetch one cell; False if another process is building it here."""
        if problems := wrong_sizes(self.place, self.contents.sizes, record):
            raise self._damaged(record, [*problems.values()])
        try:
            return self._received(record)
        except DamagedFilesError:  # perhaps of an earlier attempt: they are removed now
            pass
        try:
            return self._received(record)
        except DamagedFilesError as error:
            raise self._damaged(record, error.problems) from error

    def _received(self, record: Record) -> bool:
        def fetch(into: Path) -> None:
            self.transfers.of_files(partial(self._fetch, record, name, into) for name in record.files)

        return self.store.receive(record, fetch) is not None

    def _fetch(self, record: Record, name: str, into: Path) -> None:
        """Fetch one file, from where an earlier attempt ended."""
        path, target = f"{files_folder(record)}/{name}", inside(into, name)
        size = record.files[name].bytes
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as stream:
            done = stream.tell()
            self.transfers.count(min(done, size))
            while done < size:
                try:
                    block = self.place.read(path, done, min(done + BLOCK_BYTES, size))
                except FileNotFoundError:
                    block = b""
                if not block:
                    raise self._damaged(record, [f"{self.place.shown}/{path}: is missing, or ends before its end"])
                stream.write(block)
                done += len(block)
                self.transfers.count(len(block))

    def _damaged(self, record: Record, problems: list[str]) -> Exception:
        return DamagedFilesError(
            record.address, problems, f"`mmgrid store push` from a store that has it mends it in {self.place.shown}"
        )
