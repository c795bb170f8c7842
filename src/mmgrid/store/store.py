"""The store of built cells: one folder per cell, with a record.

A cell is built in a work folder, hashed, given its record, and renamed to its final name, so it is complete or absent.
A published folder is never changed. The work folder of a failed or killed build stays. The next attempt publishes it if
its record fits; otherwise it keeps only `step/`: a training resumes from its step checkpoints, and everything else is
written again. So an interrupted build ends with the same files as an uninterrupted one.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmgrid.files import clear_disk_errors, publish, remove_folder, sync_folder
from mmgrid.machine.clock import utc_now
from mmgrid.store.address import SHORT_DIGITS, Address
from mmgrid.store.errors import CollisionError, DamagedRecordError, LockLostError, NewerRecordError, StoreError
from mmgrid.store.failure import Failure, read_failure, read_failures, remove_failure, write_failure
from mmgrid.store.format import check_there, is_store, open_format
from mmgrid.store.integrity import DamagedFilesError, Inspector, missing_files, verify_files
from mmgrid.store.leftovers import discard, leftovers
from mmgrid.store.lock import Lock, try_lock
from mmgrid.store.logs import remove_log
from mmgrid.store.making import Make, made
from mmgrid.store.places import is_published, listed, lock_of, walk
from mmgrid.store.receiving import Fetch, check_place, check_receivable, received
from mmgrid.store.record import RECORD_FILE, Record
from mmgrid.store.work import check_held, losing, open_work, put_aside, strip

log = logging.getLogger(__name__)

_REMEDY = "give another place with --store (`mmgrid gc` shows cells that the grid no longer names)"

Fill = Callable[[Path, Lock], Record]


class Store:
    """A folder of built cells.

    Args:
        root: the folder; initialised if it is absent or empty.

    Raises:
        StoreError: the folder holds other files, or a store of another format.
        DiskFull, NotWritableError: a new store cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._inspector = Inspector()
        open_format(self.root)

    # ---- reading -------------------------------------------------------------------------------------------

    def folder(self, address: Address) -> Path:
        """The folder of the cell, built or not."""
        return Path(self._place(address))

    def _place(self, address: Address) -> str:
        """Its folder as text, which takes much less time than a path where a grid asks for thousands of cells."""
        return f"{self.root}/{address.folder}"

    def has(self, address: Address) -> bool:
        """Whether the cell is built.

        Raises:
            DamagedRecordError: its record cannot be read.
            DamagedFilesError: a file is missing or has another size than recorded.
            CollisionError: the folder belongs to another fingerprint with the same first eight digits.
        """
        return self.find(address) is not None

    def find(self, address: Address) -> Record | None:
        """The record of the cell, if it is built.

        Raises as `has`.
        """
        place = self._place(address)
        try:
            record = Record.read(place)
        except FileNotFoundError:
            return None
        _check_owner(record, place, address)
        if problems := missing_files(place, record):
            raise DamagedFilesError(address, problems, "the next `mmgrid run` sets it aside and builds it again")
        return record

    def record(self, address: Address) -> Record:
        """The record of a built cell.

        Raises:
            StoreError: it is not built.
            DamagedRecordError, CollisionError: see `has`.
        """
        folder = self._place(address)
        try:
            record = Record.read(folder)
        except FileNotFoundError:
            raise StoreError(f"{address.folder}: is not in the store {self.root}") from None
        _check_owner(record, folder, address)
        return record

    def sound(self, address: Address, file: str | None = None) -> Path:
        """The folder of a built cell, or one file of it, whose content was compared with the record.

        Each state of a file is read once by this object. Call it before something is built from a cell, or a table is
        read: a changed bit may be read as another value, or end the whole process.

        Raises:
            StoreError: it is not built.
            DamagedRecordError, CollisionError: see `has`.
            DamagedFilesError: files differ from the record.
        """
        folder = self.folder(address)
        only = None if file is None else (file,)
        if problems := self._inspector.problems(folder, self.record(address), only):
            remedy = f"`mmgrid verify --repair --store {self.root}` sets it aside, and `mmgrid run` builds it again"
            raise DamagedFilesError(address, problems, remedy)
        return folder if file is None else folder / file

    def entries(self) -> Iterator[tuple[Address, Path, Record]]:
        """All built cells, sorted by folder. Damaged and newer ones are logged and left out; see `damaged` and `newer`."""
        for folder in self._published():
            found = self._read(folder)
            if isinstance(found, Record):
                yield found.address, folder, found
            else:
                log.warning("%s", found)

    def damaged(self) -> list[tuple[Path, str]]:
        """Folders of damaged cells, each with the problem.

        Their record cannot be read or belongs to another folder, or a file is missing or has another size.
        """
        return self.unsound()[0]

    def unsound(self) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
        """The folders of damaged cells, and those of cells that another version has built, each with what is said of it.

        The latter have records with keys that this version does not know. It cannot tell whether their files are sound,
        and leaves them as they are.
        """
        damaged, newer = [], []
        for folder in self._published():
            record = self._read(folder)
            problems = missing_files(folder, record) if isinstance(record, Record) else [str(record)]
            if problems:
                more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
                (newer if isinstance(record, NewerRecordError) else damaged).append((folder, f"{problems[0]}{more}"))
        return damaged, newer

    def versions_of(self, name: str) -> list[Record]:
        """The records of all built versions of one readable name, newest first."""
        place = self.root.joinpath(*Address.of(name, "0" * SHORT_DIGITS).name.split("/"))
        folders = [path for path in listed(place) if is_published(path)]
        records = [found for found in map(self._read, folders) if isinstance(found, Record)]
        return sorted(records, key=lambda record: (record.finished, record.fingerprint), reverse=True)

    def _read(self, folder: Path) -> Record | Exception:
        try:
            record = Record.read(folder)
            name = folder.parent.relative_to(self.root).as_posix()
            _check_owner(record, folder, Address.of(name, record.fingerprint))
            return record
        except (StoreError, FileNotFoundError, ValueError) as error:
            return error

    def _published(self) -> Iterator[Path]:
        yield from (path for path in walk(self.root) if is_published(path))

    # ---- building ------------------------------------------------------------------------------------------

    def build(
        self,
        address: Address,
        recipe: Mapping[str, Any],
        upstream: Mapping[str, Mapping[str, str]],
        make: Make,
    ) -> Record | None:
        """Build a cell, unless it is built already. One with damaged files is set aside, and built again.

        Args:
            address: of the cell.
            recipe: all resolved values that determine its content, as JSON values.
            upstream: role → {"name", "fingerprint"} of a cell that it is built from.
            make: writes the cell into the given folder and returns small facts for tables (JSON values). The folder
                is empty or holds `step/` from an interrupted call; `step/` is never published. It is not called where
                an interrupted call came to its end.

        Returns:
            The record, also if another process built the cell meanwhile; None if another process is building it.

        Raises:
            DiskFull, NotWritableError: the store cannot be written.
            LockLostError: another process took over the lock; nothing was published.
            StoreGoneError: the store is no longer there.
            StoreError: the facts or the recipe are not JSON, or `make` wrote a file that belongs to the store.
            Exception: any error of `make`. The work folder stays, nothing is published.
        """
        return self._once(address, lambda work, lock: made(work, address, recipe, upstream, make, lock))

    def receive(self, record: Record, fetch: Fetch) -> Record | None:
        """Publish a cell that another store has built, with its record from there, unless it is here already.

        Args:
            record: from the other store.
            fetch: see `mmgrid.store.receiving.received`.

        Returns:
            The record of the cell here; None if another process is building it.

        Raises:
            DamagedRecordError: no store writes such a record, or what is here has another.
            DamagedFilesError: what was fetched is not what the record says.
            Exception: as `build`, and any error of `fetch`; the next call goes on with what has arrived.
        """
        address = check_receivable(record)
        check_place(self.root, self.folder(address), address)
        return self._once(address, lambda work, _: received(work, address, record, fetch))

    def _once(self, address: Address, fill: Fill) -> Record | None:
        """Have the work folder of a cell filled under its lock, and publish it, unless the cell is there."""
        if record := self._find_whole(address):
            return record
        check_there(self.root)
        try:
            return self._under_lock(address, fill)
        except LockLostError:
            check_there(self.root)  # the lock is lost, too, where the whole store has gone
            raise

    def _under_lock(self, address: Address, fill: Fill) -> Record | None:
        final = self.folder(address)
        with clear_disk_errors(final, remedy=_REMEDY):
            final.parent.mkdir(parents=True, exist_ok=True)
            lock = try_lock(lock_of(final))
            if lock is None:
                return self._find_whole(address)
            with lock, losing(lock, address):
                if record := self._find_whole(address):
                    return record
                if is_published(final):
                    put_aside(final, lock)
                    check_held(lock, address)
                return self._build(address, lock, fill)

    def _find_whole(self, address: Address) -> Record | None:
        """As `find`, but None for a cell with damaged files."""
        try:
            return self.find(address)
        except DamagedFilesError:
            return None

    def _build(self, address: Address, lock: Lock, fill: Fill) -> Record:
        final = self.folder(address)
        work, record = open_work(final, address, lock)
        if record is None:
            record = fill(work, lock)
            # All is on the disk before the step checkpoints are removed, so that a power cut loses no training either.
            sync_folder(work)
        check_held(lock, address)
        strip(work)
        check_held(lock, address)
        try:
            publish(work, final, last_file=RECORD_FILE)
        except FileExistsError:
            record = self._find_whole(address)
            if record is None:
                raise
            # who had the lock before published just as it was taken over
            remove_folder(work)
        remove_failure(self.root, address)
        return record

    # ---- maintenance -------------------------------------------------------------------------------------------

    def verify(self, address: Address, progress: Callable[[int], None] | None = None) -> list[str]:
        """Hash the cell's files again; returns the differences from its record, one line each.

        progress: called with the number of bytes that were read since the last call.

        Raises:
            StoreError: the cell is not built, or its record is damaged.
        """
        return verify_files(self.folder(address), self.record(address), progress)

    def set_aside(self, folder: Path, *, sound: bool = False) -> Path | None:
        """Rename the folder of a damaged cell, so that the cell counts as missing; returns its new path.

        None if it is sound or gone by now, or another version has built it, or another process builds it or has taken
        over the lock. What is set aside is among `leftovers`.

        sound: also one whose files are as they were recorded.
        """
        with clear_disk_errors(folder, remedy="let its owner do it"):
            lock = try_lock(lock_of(folder))
            if lock is None:
                return None
            with lock:
                record = self._read(folder) if is_published(folder) else None
                if record is None or isinstance(record, NewerRecordError):
                    return None
                if not sound and isinstance(record, Record) and not verify_files(folder, record):
                    return None
                with contextlib.suppress(FileNotFoundError):  # another process has taken over the lock
                    return put_aside(folder, lock)
                return None

    def remove(self, address: Address) -> None:
        """Remove a built cell atomically, and its log. No error if it is absent."""
        with clear_disk_errors(self.folder(address), remedy="let its owner do it", removing=True):
            remove_folder(self.folder(address))
        remove_log(self.root, address)

    def size(self, address: Address, record: Record | None = None) -> int:
        """Bytes of the cell's files, its record included.

        record: of the cell, where it has been read.

        Raises:
            StoreError: the cell is not built, or its record is damaged.
        """
        entries = (record or self.record(address)).files.values()
        return sum(entry.bytes for entry in entries) + os.stat(f"{self._place(address)}/{RECORD_FILE}").st_size

    # ---- failures ---------------------------------------------------------------------------

    def note_failure(self, address: Address, error: str, blocked: Iterable[Address] = ()) -> None:
        """Record that building the cell failed and what that blocks, until it is built. Never raises."""
        first_line = next(iter(error.splitlines()), "")
        names = {other.name: other.fingerprint for other in blocked}
        failure = Failure(
            name=address.name, fingerprint=address.fingerprint, message=first_line, blocked=names, when=utc_now()
        )
        if is_store(self.root):
            write_failure(self.root, failure)

    def failure(self, address: Address) -> Failure | None:
        """The failure of the newest attempt at the cell; None if it is built, or no failure is recorded."""
        return read_failure(self.root, address)

    def failures(self) -> list[Failure]:
        """Failures of cells that are still not built, sorted by name, with the cells that they still block."""
        return list(read_failures(self.root))

    def forget_failure(self, address: Address) -> None:
        """Remove the record of a failure, and the log that tells of it. No error if there is none."""
        remove_failure(self.root, address)
        remove_log(self.root, address)

    # ---- leftovers ---------------------------------------------------------------------------------------

    def leftovers(self) -> list[Path]:
        """Files and folders that killed processes left behind, for `gc`; see `mmgrid.store.leftovers`."""
        return leftovers(self.root)

    def discard(self, leftover: Path) -> bool:
        """Remove one of `leftovers`; returns False if a process uses it again by now.

        Raises:
            StoreError: it is not a leftover of this store.
        """
        return discard(self.root, leftover)


def _check_owner(record: Record, folder: Path | str, address: Address) -> None:
    """Raises unless the record in `folder` is that of the address: DamagedRecordError, CollisionError as in `has`."""
    if record.name != address.name or record.fingerprint[:SHORT_DIGITS] != str(folder)[-SHORT_DIGITS:]:
        raise DamagedRecordError(
            f"{folder}: its record is that of {record.name} {record.fingerprint[:SHORT_DIGITS]}; "
            f"somebody moved the folder. Move it back, or remove it to have the cell built again."
        )
    if record.fingerprint != address.fingerprint:
        raise CollisionError(
            f"{folder}: holds the fingerprint {record.fingerprint}, and {address.fingerprint} shares its "
            f"first {SHORT_DIGITS} digits. Build the second one in another store."
        )
