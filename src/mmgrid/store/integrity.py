"""Compares the files of a published cell with its record.

Whether every file is there in its recorded size costs one look at each, so it is asked whenever a cell is asked for.
Digests cost reading. They are compared before something is built from a cell or its tables are read, once per process
and state of a file (`Stamp`), and by `mmgrid verify`.
"""

import os
from collections.abc import Callable, Collection
from pathlib import Path

from mmgrid.files import sha256_file
from mmgrid.files.digest import Stamp
from mmgrid.store.address import Address
from mmgrid.store.errors import StoreError
from mmgrid.store.record import RECORD_FILE, FileEntry, Record


class DamagedFilesError(StoreError):
    """Files of a published cell are not those of its record.

    address: of the cell. problems: one line for each file. problem: all of it in one line, without a remedy.
    """

    def __init__(self, address: Address, problems: list[str], remedy: str) -> None:
        self.address, self.problems = address, problems
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        self.problem = f"{address.name} is damaged: {problems[0]}{more}"
        super().__init__(f"{self.problem}; {remedy}")


def missing_files(folder: Path | str, record: Record) -> list[str]:
    """The files that are missing or have another size than recorded, one line each."""
    return [
        problem
        for relative, entry in sorted(record.files.items())
        if (problem := _state(f"{folder}/{relative}", entry)[0]) is not None
    ]


def verify_files(folder: Path, record: Record, progress: Callable[[int], None] | None = None) -> list[str]:
    """All differences between the files in a cell's folder and its record, one line each; reads every file.

    progress: called with the number of bytes that were read since the last call.
    """
    problems = []
    for relative, entry in sorted(record.files.items()):
        problem, _ = _state(folder / relative, entry)
        problem = problem or _content(folder / relative, entry, progress)
        problems += [problem] if problem else []
    present = {
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, folders, names in os.walk(folder)
        for name in (*names, *(name for name in folders if (Path(parent) / name).is_symlink()))
    }
    extra = sorted(present - record.files.keys() - {RECORD_FILE})
    return problems + [f"{folder / relative}: is not in the record" for relative in extra]


class Inspector:
    """Compares digests, and remembers which state of which file it has found sound."""

    def __init__(self) -> None:
        self._sound: dict[Path, Stamp] = {}

    def problems(self, folder: Path, record: Record, only: Collection[str] | None = None) -> list[str]:
        """The files that differ from the record, one line each; `only`: no other files than these."""
        found = []
        for relative, entry in sorted(record.files.items()):
            if only is not None and relative not in only:
                continue
            path = folder / relative
            problem, stamp = _state(path, entry)
            if problem is None and self._sound.get(path) != stamp:
                problem = _content(path, entry)
                if problem is None and stamp is not None:
                    self._sound[path] = stamp
            found += [problem] if problem else []
        return found


def _state(path: Path | str, entry: FileEntry) -> tuple[str | None, Stamp | None]:
    """What is wrong with a file as far as it shows without reading, and its state."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return f"{path}: is missing", None
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})", None
    if status.st_size != entry.bytes:
        return f"{path}: has {status.st_size} bytes instead of the recorded {entry.bytes}", None
    return None, Stamp.read_from(status)


def _content(path: Path, entry: FileEntry, progress: Callable[[int], None] | None = None) -> str | None:
    try:
        if sha256_file(path, progress) == entry.sha256:
            return None
    except OSError as error:  # as for a sector that the disk has lost
        return f"{path}: cannot be read ({error.strerror})"
    return f"{path}: its content differs from the record"
