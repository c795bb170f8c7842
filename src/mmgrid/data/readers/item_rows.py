"""The items of a domain from their files: id, title and description of those that are wanted."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.numbering import Numbered, all_distinct
from mmgrid.data.raw import ITEMS
from mmgrid.data.readers import json_lines, tables
from mmgrid.data.readers.chosen_lines import Wanted
from mmgrid.data.readers.interaction_files import Reading
from mmgrid.data.readers.mending import mended
from mmgrid.data.readers.names import Names, names_of, one_domain
from mmgrid.data.readers.options import TableOptions, kept_from
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.side_by_side import Turn, in_order
from mmgrid.data.readers.values import NO_ID, ids, texts
from mmgrid.machine.beside import begun

_MOST_BEGUN = 4  # blocks of `lines.BLOCK_BYTES`, that are held until it is known which items are wanted


class ItemRows:
    """The rows of items in some files; of several rows of an item, the first with a title counts.

    Args:
        required: whether there must be a column of titles.
    """

    def __init__(self, files: Sequence[Path], reading: Reading, *, required: bool) -> None:
        self._files, self._reading, self._required, self._mend = files, reading, required, True
        self._begun: Iterator[Piece] | None = None
        self._wanted: Numbered | None = None

    @contextmanager
    def begun(self) -> Iterator[None]:
        """The first rows are parsed in a thread, while it is found out which items are wanted.

        Not if bad lines are left out: they would be counted in another order.
        """
        path = self._files[0]
        if self._reading.repairs.skip_bad_lines or tables.file_format(path) not in ("jsonl", "delimited"):
            yield
            return
        with begun(self._pieces(path, self._reading.repairs.again()), _MOST_BEGUN) as self._begun:
            yield

    def table(self, wanted: Numbered | None = None, *, mend: bool = True) -> pl.DataFrame:
        """item_id, title and description of the wanted items, by default all.

        mend: whether texts are to be mended.

        Raises DataError as `read_files`.
        """
        self._wanted, self._mend = wanted, mend
        found = [pl.DataFrame(schema=ITEMS)]
        for parts, repairs in in_order(self._read, self._files):
            found += parts
            self._reading.repairs.include(repairs)
        items = pl.concat(found)  # in its chunks: a copy of all texts would double their memory
        distinct = _first_rows(items)
        if self._required:
            self._reading.repairs.repeated_items += len(items) - len(distinct)
        return distinct

    @cached_property
    def _names(self) -> Names:
        return names_of(self._files[0], self._reading.options, items=True, required=self._required)

    @cached_property
    def _described(self) -> npt.NDArray[np.bool_] | None:
        """Whether each wanted item has so many rows that its description can be asked for; None: all can."""
        least = kept_from(self._reading.options)
        return None if self._wanted is None or least <= 1 else self._wanted.counts() >= least

    def _pieces(self, path: Path, repairs: Repairs) -> Generator[Piece]:
        yield from item_pieces(path, self._names, self._reading.options, repairs, self._sought)

    def _sought(self, written: pl.Series) -> pl.Series | None:
        """bool: whether ids, as they stand in a file, are wanted, or have to be looked at as `ids` does; None while nobody
        knows, or if all are."""
        if self._wanted is None:
            return None
        odd = (written.str.len_bytes() == 0) | written.str.contains("\0", literal=True) | written.str.ends_with(".0")
        odd |= written.is_in(NO_ID)
        return pl.Series(self._wanted.find(written) >= 0) | odd

    def _read(self, path: Path, turn: Turn) -> tuple[list[pl.DataFrame], Repairs]:
        parts, repairs = [], self._reading.repairs.again()
        pieces: Iterator[Piece] = self._pieces(path, repairs)
        if self._begun is not None and path == self._files[0]:
            pieces, self._begun = self._begun, None
        for piece in turn.while_mine(pieces):
            repairs.good_rows(piece, lambda piece: parts.append(self._of_piece(piece, repairs)))
        return parts, repairs

    def _of_piece(self, piece: Piece, repairs: Repairs) -> pl.DataFrame:
        """The wanted items of a piece, with their texts."""
        names = self._names
        piece = one_domain(piece, names, self._reading.domain)
        piece = piece.with_column(names.item, ids(piece, names.item))
        numbers = None
        if self._wanted is not None:  # a file may hold millions of others
            numbers = self._wanted.find(piece.frame[names.item])
            piece, numbers = piece.kept(pl.Series(numbers >= 0)), numbers[numbers >= 0]
        paragraphs = [self._text(piece, name, "\n", repairs) for name in names.descriptions]
        description = _joined(paragraphs, len(piece.frame)).str.strip_chars()
        if self._described is not None and numbers is not None:
            description = _only(description, pl.Series(self._described[numbers]))
        title = self._text(piece, names.title, " ", repairs).str.strip_chars() if names.title else ""
        columns = {"item_id": piece.frame[names.item], "title": title, "description": description}
        return pl.DataFrame(columns, schema=ITEMS)

    def _text(self, piece: Piece, name: str, line_break: str, repairs: Repairs) -> pl.Series:
        column = texts(piece, name, line_break)
        return mended(column, repairs.texts, line_break, controls=piece.controls) if self._mend else column


def item_table(files: Sequence[Path], options: TableOptions, *, titles: bool = True) -> pl.DataFrame:
    """item_id, title and description of all items in some files; of several rows of an item, the first with a title.

    titles: whether there must be a column of titles.

    Raises DataError as `read_files`.
    """
    reading = Reading("", options, Repairs(options.skip_bad_lines), None)
    return ItemRows(files, reading, required=titles).table()


def _only(column: pl.Series, mask: pl.Series) -> pl.Series:
    """The texts where the mask is true, in memory of their own, and "" elsewhere."""
    if mask.all():
        return column
    chosen = column.filter(mask) + ""  # a copy: the rest of the column can go
    places = pl.select(pl.when(mask).then(mask.cum_sum() - 1)).to_series()
    return chosen.gather(places).fill_null("").alias(column.name)


def item_pieces(
    path: Path, names: Names, options: TableOptions, repairs: Repairs, wanted: Wanted | None = None
) -> Iterator[Piece]:
    """The columns of items in a file. `wanted`: see `json_lines.read_items`."""
    others = [names.domain] if names.domain is not None else []
    if tables.file_format(path) == "jsonl":
        title = names.title or "title"
        return json_lines.read_items(path, names.item, title, list(names.descriptions), others, repairs, wanted)
    more = [name for name in (names.title, *names.descriptions, *others) if name is not None]
    return tables.read(path, list(dict.fromkeys([names.item, *more])), options.encoding, repairs)


def _first_rows(items: pl.DataFrame) -> pl.DataFrame:
    """One row for each item: the first that has a title, or else the first."""
    if all_distinct(items["item_id"]):
        return items
    titled = pl.col("title").str.strip_chars() != ""
    order = items.with_row_index("row").sort(~titled, "row", maintain_order=True)
    return order.unique("item_id", keep="first", maintain_order=True).sort("row").drop("row")


def _joined(columns: list[pl.Series], rows: int) -> pl.Series:
    """The texts of several columns as paragraphs of one."""
    if not columns:
        return pl.Series("description", [""] * rows, dtype=pl.String)
    if len(columns) == 1:
        return columns[0].alias("description")
    texts = pl.DataFrame([column.alias(str(place)) for place, column in enumerate(columns)])
    filled = [pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name)) for name in texts.columns]
    return texts.select(pl.concat_str(filled, separator="\n", ignore_nulls=True).alias("description"))["description"]
