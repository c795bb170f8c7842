"""Sends cells of a store to a remote one: the files of a cell first, and its record when all of them are there."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from mmgrid.store.address import Address
from mmgrid.store.errors import StoreError
from mmgrid.store.record import RECORD_FILE, Record
from mmgrid.store.remote.content import differs, wrong_size, wrong_sizes
from mmgrid.store.remote.layout import (
    Contents,
    HalfRecordError,
    check_same_cell,
    files_folder,
    read_record,
    survey,
    total_bytes,
)
from mmgrid.store.remote.place import Place
from mmgrid.store.remote.transfers import Transfers
from mmgrid.store.store import Store

SENT, MENDED, PRESENT, OTHER = "sent", "mended", "present", "other"


@dataclass(frozen=True)
class Moved:
    """What has become of cells.

    Attributes:
        done: those that were sent or fetched, and those that were there with damaged files.
        present: those that were there.
        other: those that were there with other bytes, as another machine builds them; they stay.
        busy: those that another process is building here.
        problems: folder of a cell → what went wrong with it.
        bytes: of the files of `done`.
    """

    done: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    bytes: int = 0


def push(
    store: Store,
    place: Place,
    cells: Sequence[Address],
    *,
    deep: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Moved:
    """Send built cells to a remote store.

    A cell that is there stays; files of it that are missing or have another size are sent again. What was sent is read
    back. A call goes on where one before it ended.

    Args:
        store: of the cells.
        place: of the remote store; made one if it is empty.
        cells: built cells.
        deep: also read the cells that are there, and mend those with other bytes than recorded.
        progress: called with bytes, and bytes in all; each byte is sent, and read back.

    Raises:
        RemoteError: the remote store cannot be read or written, or is none.
    """
    contents = survey(place, writing=True)
    records = {address: store.record(address) for address in cells}
    total = 2 * total_bytes(record for one, record in records.items() if deep or not contents.cells.get(one.folder))
    with Transfers[Address, str](lambda done: progress(done, total)) as transfers:
        one = _Pusher(store, place, contents, transfers, deep).push
        found, problems = transfers.of_cells(records, one)
    sent = [address for address, became in found.items() if became in (SENT, MENDED)]
    return Moved(
        done=[address.name for address in sent],
        present=[address.name for address, became in found.items() if became == PRESENT],
        other=[address.name for address, became in found.items() if became == OTHER],
        problems={address.folder: problem for address, problem in problems.items()},
        bytes=total_bytes(records[address] for address in sent),
    )


@dataclass(frozen=True)
class _Pusher:
    store: Store
    place: Place
    contents: Contents
    transfers: Transfers[Address, str]
    deep: bool

    def push(self, address: Address) -> str:
        """Send one cell, and say what has become of it."""
        record, torn = self.store.record(address), False
        if self.contents.cells.get(address.folder):
            try:
                return self._mend(address, record, read_record(self.place, self.contents, address.folder))
            except HalfRecordError:
                torn = True
        self._send(address, record, record.files)
        raw, path = (self.store.folder(address) / RECORD_FILE).read_bytes(), f"{address.folder}/{RECORD_FILE}"
        if torn:
            self.place.write(path, raw)
        elif not self.place.create(path, raw):  # another process was faster
            return self._compared(address, record, read_record(self.place, self.contents, address.folder))
        return SENT

    def _compared(self, address: Address, record: Record, there: Record) -> str:
        check_same_cell(there, address, self.place.shown)
        return PRESENT if there.files == record.files else OTHER

    def _mend(self, address: Address, record: Record, there: Record) -> str:
        """Send what is missing of a cell that is there."""
        became = self._compared(address, record, there)
        if became == OTHER:
            return OTHER
        damaged = record.files if self.deep else wrong_sizes(self.place, self.contents.sizes, record)
        return MENDED if damaged and self._send(address, record, damaged) else PRESENT

    def _send(self, address: Address, record: Record, names: Iterable[str]) -> int:
        """Send files of a cell; the number of those that were not there already."""
        folder, sent = self.store.sound(address), []

        def send(name: str) -> None:
            entry, path, count = record.files[name], f"{files_folder(record)}/{name}", self.transfers.count
            if not wrong_size(self.place, self.contents.sizes, path, entry) and not differs(
                self.place, path, entry, count
            ):
                count(entry.bytes)
                return
            self.place.put(folder.joinpath(*name.split("/")), path, count)
            if problem := differs(self.place, path, entry, count):
                raise StoreError(f"{problem}, although it was just sent; run the same command again")
            sent.append(name)

        self.transfers.of_files(partial(send, name) for name in names)
        return len(sent)
