"""The interactions of a domain from their files, which are read side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.log import Log
from mmgrid.data.numbering import Numbered
from mmgrid.data.readers import json_lines, tables
from mmgrid.data.readers.names import Names, domain_name, names_of, one_domain
from mmgrid.data.readers.options import TableOptions
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.side_by_side import Turn, in_order
from mmgrid.data.readers.times import Times
from mmgrid.data.readers.values import ids, ratings
from mmgrid.machine.beside import both


@dataclass(frozen=True)
class Reading:
    """What holds for all files of a domain. latest_ms: times after it are wrong; None: none is."""

    domain: str
    options: TableOptions
    repairs: Repairs
    latest_ms: int | None


def read_log(files: Sequence[Path], reading: Reading) -> tuple[Log, bool]:
    """The interactions of all files, and whether they are reviews, which nobody filtered."""
    options = reading.options
    names = names_of(files[0], options)
    found = in_order(lambda path, turn: _File.read(path, names, reading, turn), files)
    times = Times(names.time, options.time_unit, reading.latest_ms)
    for file in found:
        times.extend(file.times)
        reading.repairs.include(file.repairs)
    timestamps = times.milliseconds(reading.repairs)
    kept = timestamps.is_not_null()
    if not kept.any() and names.domain is not None:
        _no_rows(files, reading.domain, names, options)
    if not kept.any() and options.min_rating is not None:
        raise DataError(f"{files[0]}: no {names.rating} is at least {options.min_rating:g}; lower min_rating")
    reviews = tables.file_format(files[0]) == "jsonl" and names.item == "parent_asin"
    users, items = both(
        lambda: _numbered([file.users for file in found], kept), lambda: _numbered([file.items for file in found], kept)
    )
    return Log(users, items, timestamps.drop_nulls().to_numpy()), reviews


@dataclass(eq=False)
class _File:
    """What was read of a file: ids of users and items, piece by piece, times, and repairs."""

    times: Times
    repairs: Repairs
    users: list[pl.Series] = field(default_factory=list)
    items: list[pl.Series] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, names: Names, reading: Reading, turn: Turn) -> "_File":
        """All of a file. Raises DataError as `read_files`."""
        options = reading.options
        file = cls(Times(names.time, options.time_unit, reading.latest_ms), reading.repairs.again())

        def add(piece: Piece) -> None:
            piece = one_domain(piece, names, reading.domain)
            if names.rating is not None and options.min_rating is not None:
                piece = piece.kept(ratings(piece, names.rating) >= options.min_rating)
            of_user, of_item = ids(piece, names.user), ids(piece, names.item)
            file.times.add(piece)
            file.users.append(of_user)
            file.items.append(of_item)

        for piece in turn.while_mine(_pieces(path, names, options, file.repairs)):
            file.repairs.good_rows(piece, add)
        return file


def _numbered(files: list[list[pl.Series]], kept: pl.Series) -> Numbered:
    """The kept rows of a column as numbers; its parts are given up, since they may fill half of the memory."""
    column = pl.concat([pl.Series([], dtype=pl.String), *(part for parts in files for part in parts)], rechunk=True)
    for parts in files:
        parts.clear()
    return Numbered.of(column if kept.all() else column.filter(kept))


def _pieces(path: Path, names: Names, options: TableOptions, repairs: Repairs) -> Iterator[Piece]:
    rating = names.rating if options.min_rating is not None else None
    others = [name for name in (names.domain, rating) if name is not None]
    if tables.file_format(path) == "jsonl":
        return json_lines.read_interactions(path, names.user, names.item, names.time, others, repairs)
    columns = list(dict.fromkeys([names.user, names.item, names.time, *others]))
    numbers = [] if "%" in (options.time_unit or "") else [names.time]  # a form may count zeros at the start
    return tables.read(path, columns, options.encoding, repairs, numbers)


def _no_rows(files: Sequence[Path], domain: str, names: Names, options: TableOptions) -> None:
    """Raise DataError if no row names the domain."""
    found: dict[str, None] = {}
    for path in files:
        for piece in _pieces(path, names, options, Repairs(skip_bad_lines=True)):
            found |= dict.fromkeys(
                piece.frame[str(names.domain)].cast(pl.String).drop_nulls().unique(maintain_order=True)
            )
    if any(domain_name(value) == domain for value in found):
        return
    listed = ", ".join(list(found)[:10]) + (" …" if len(found) > 10 else "")
    raise DataError(
        f"{files[0]}: no row is of the domain {domain}; its column {names.domain} holds {listed or 'nothing'}"
    )
