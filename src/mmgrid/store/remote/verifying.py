"""Compares the cells of a remote store with their records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from mmgrid.store.errors import NewerRecordError
from mmgrid.store.record import Record
from mmgrid.store.remote.content import differs, wrong_sizes
from mmgrid.store.remote.layout import Contents, files_folder, name_of, read_record, survey, total_bytes
from mmgrid.store.remote.place import Place
from mmgrid.store.remote.transfers import Transfers


@dataclass(frozen=True)
class Verified:
    """What a remote store holds.

    Attributes:
        cells: names of the cells that were looked at, in order, one for each version.
        bytes: of their files.
        damaged: folder of a cell → what is wrong with it, one line each.
        unfinished: folders that files were sent to, and no record yet.
        foreign: files that belong to no cell.
        newer: folder of a cell whose record this version does not know → what is said of it.
    """

    cells: list[str]
    bytes: int
    damaged: dict[str, list[str]]
    unfinished: list[str]
    foreign: list[str]
    newer: dict[str, str] = field(default_factory=dict)


def verify(
    place: Place,
    wanted: Callable[[str], bool],
    *,
    deep: bool = False,
    check: Callable[[Record], str | None] = lambda record: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Compare cells with their records: whether each file is there in its size.

    Args:
        place: of the remote store.
        wanted: whether to look at a cell, by its readable name.
        deep: also read every file and compare its SHA-256, and ask `check`.
        check: what is wrong with a record, beyond its form.
        progress: called with bytes that were read, and bytes in all.

    Raises:
        RemoteError: the remote store cannot be read, or is none.
    """
    contents = survey(place)
    chosen = [folder for folder in contents.cells if wanted(name_of(folder))]
    published = [folder for folder in chosen if contents.cells[folder]]
    newer: dict[str, str] = {}

    def read(folder: str) -> Record | None:
        try:
            return read_record(place, contents, folder)
        except NewerRecordError as error:
            newer[folder] = str(error)
            return None

    with Transfers[str, Record | None](lambda done: None) as reading:
        found, unread = reading.of_cells(published, read)
    records = {folder: record for folder, record in found.items() if record is not None}
    total = total_bytes(records.values())
    with Transfers[str, list[str]](lambda done: progress(done, total)) as transfers:

        def problems_of(folder: str) -> list[str]:
            record = records[folder]
            found = _problems(place, contents, record, transfers if deep else None)
            problem = check(record) if deep else None
            return [*found, f"{place.shown}/{folder}/{problem}"] if problem else found

        found, failed = transfers.of_cells(records, problems_of)
    problems = {folder: [text] for folder, text in (unread | failed).items()}
    problems |= {folder: lines for folder, lines in found.items() if lines}
    return Verified(
        cells=[name_of(folder) for folder in published],
        bytes=total,
        damaged=dict(sorted(problems.items())),
        newer=dict(sorted(newer.items())),
        unfinished=[folder for folder in chosen if not contents.cells[folder]],
        foreign=contents.strangers,
    )


def _problems(
    place: Place, contents: Contents, record: Record, transfers: Transfers[str, list[str]] | None
) -> list[str]:
    """What is wrong with the files of one cell; read by `transfers`, if there are any."""
    wrong = wrong_sizes(place, contents.sizes, record)
    found = {name: wrong.get(name) for name in sorted(record.files)}
    if transfers is not None:
        folder = files_folder(record)

        def read(name: str) -> None:
            found[name] = differs(place, f"{folder}/{name}", record.files[name], transfers.count)

        transfers.of_files(partial(read, name) for name in sorted(record.files.keys() - wrong))
    return [problem for problem in found.values() if problem]
