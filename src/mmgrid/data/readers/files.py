"""A domain from its files: those of interactions and, if there are any, those of items."""

import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import polars as pl

from mmgrid.data.calendar import DAY_MS
from mmgrid.data.corpus import INTERACTIONS_FILE, ITEMS_FILE, stored_name
from mmgrid.data.errors import DataError, short
from mmgrid.data.numbering import Numbered, all_distinct
from mmgrid.data.raw import ITEMS, RawDomain
from mmgrid.data.readers import json_lines, tables
from mmgrid.data.readers.chosen_lines import Wanted
from mmgrid.data.readers.interaction_files import Reading, read_log
from mmgrid.data.readers.mending import mended
from mmgrid.data.readers.names import Names, names_of, one_domain
from mmgrid.data.readers.options import TableOptions, kept_from
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.side_by_side import Turn, in_order
from mmgrid.data.readers.values import NO_ID, ids, texts
from mmgrid.machine.freed_memory import release_freed

_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_AROUND = re.compile(
    r"^[\s='\"`\u00ad\u200b-\u200f\u2018-\u201d\u2060\ufeff]+|[\s'\"`\u00ad\u200b-\u200f\u2018-\u201d\u2060\ufeff]+$"
)


def read_files(
    ratings: Path, items: Path, name: str, options: TableOptions | None = None, *, future: bool = False
) -> RawDomain:
    """Read the domain `name` from a file of interactions and a file of items.

    The item column is `parent_asin`, as in Amazon Reviews 2023, or `item_id`. A file of reviews, JSON lines with
    `parent_asin`, is marked as unfiltered (see `RawDomain`). Only items with an interaction are kept, since an item
    file may hold millions of others.

    Args:
        future: whether times may lie after tomorrow, as in an artificial world.

    Raises DataError if a file is missing, unreadable or lacks columns, or if the two files share no item.
    """
    return read_domain([Path(ratings)], [Path(items)], name, options or TableOptions(), future=future)


def read_domain(
    interaction_files: Sequence[Path],
    item_files: Sequence[Path],
    name: str,
    options: TableOptions,
    *,
    future: bool = False,
    are_reviews: bool | None = None,
) -> RawDomain:
    """Read a domain from the files of its interactions and of its items, each in the order given.

    Without files of items, titles and descriptions are those in the interactions; without these, the title of an item
    is its id.

    Args:
        are_reviews: whether nobody filtered the interactions; None: as in `read_files`.

    Raises DataError as `read_files`, naming the row of a value that cannot be read.
    """
    for path in (*interaction_files, *item_files):
        tables.file_format(path)
    reading = Reading(name, options, Repairs(options.skip_bad_lines), None if future else _tomorrow_ms())
    log, unfiltered = read_log(interaction_files, reading)
    if item_files or has_texts(interaction_files, item_files, options):
        mend = not _prepared_here(interaction_files, item_files)
        items = _items(item_files or interaction_files, log.items, reading, required=bool(item_files), mend=mend)
    else:
        items = pl.DataFrame([log.items.ids.alias("item_id")])
        items = items.with_columns(title=pl.col("item_id").str.strip_chars(), description=pl.lit(""))
    if not len(log):
        left_out = ""
        if reading.repairs.bad_lines:
            left_out = (
                f" that can be read; {reading.repairs.bad_lines:,} lines were left out: {reading.repairs.listed[0]}"
            )
        raise DataError(f"{interaction_files[0]}: contains no interactions{left_out}")
    if items.is_empty():
        _do_not_meet(interaction_files[0], log.items.ids, item_files, options)
    unfiltered = unfiltered if are_reviews is None else are_reviews
    release_freed()
    return RawDomain(name, log, items, unfiltered, reading.repairs.summary())


def _tomorrow_ms() -> int:
    return int(time.time() * 1000) + DAY_MS


def _prepared_here(interaction_files: Sequence[Path], item_files: Sequence[Path]) -> bool:
    """Whether `Corpus.save` wrote the files: their texts were mended when they were first read."""
    folders = {path.parent for path in (*interaction_files, *item_files)}
    names = [path.name for path in (*interaction_files, *item_files)]
    return len(folders) == 1 and names == [INTERACTIONS_FILE, ITEMS_FILE] and stored_name(folders.pop()) is not None


def has_texts(interaction_files: Sequence[Path], item_files: Sequence[Path], options: TableOptions) -> bool:
    """Whether items have titles of their own: a file of items, or a title in the interactions."""
    if item_files:
        return True
    return names_of(interaction_files[0], options, items=True).title is not None


def item_table(files: Sequence[Path], options: TableOptions, *, titles: bool = True) -> pl.DataFrame:
    """item_id, title and description of all items in some files; of several rows of an item, the first with a title.

    titles: whether there must be a column of titles.

    Raises DataError as `read_files`.
    """
    reading = Reading("", options, Repairs(options.skip_bad_lines), None)
    return _items(files, None, reading, required=titles, mend=True)


def _items(
    files: Sequence[Path], wanted: Numbered | None, reading: Reading, *, required: bool, mend: bool
) -> pl.DataFrame:
    """item_id, title and description of the wanted items, by default all; of several rows of an item, the first with a
    title."""
    names = names_of(files[0], reading.options, items=True, required=required)
    least = kept_from(reading.options)
    counts = None if wanted is None or least <= 1 else wanted.counts()

    def read(path: Path, turn: Turn) -> tuple[list[pl.DataFrame], Repairs]:
        parts, repairs = [], reading.repairs.again()

        def text(piece: Piece, name: str, line_break: str = "\n") -> pl.Series:
            column = texts(piece, name, line_break)
            return mended(column, repairs.texts, line_break, controls=piece.controls) if mend else column

        def add(piece: Piece) -> None:
            piece = one_domain(piece, names, reading.domain)
            piece = piece.with_column(names.item, ids(piece, names.item))
            numbers = None
            if wanted is not None:  # a file may hold millions of others
                numbers = wanted.find(piece.frame[names.item])
                piece, numbers = piece.kept(pl.Series(numbers >= 0)), numbers[numbers >= 0]
            paragraphs = [text(piece, name) for name in names.descriptions]
            description = _joined(paragraphs, len(piece.frame)).str.strip_chars()
            if counts is not None and numbers is not None:
                description = _only(description, pl.Series(counts[numbers] >= least))
            title = text(piece, names.title, " ").str.strip_chars() if names.title else ""
            columns = {"item_id": piece.frame[names.item], "title": title, "description": description}
            parts.append(pl.DataFrame(columns, schema=ITEMS))

        sought = None if wanted is None else partial(_sought, wanted)
        for piece in turn.while_mine(_item_pieces(path, names, reading.options, repairs, sought)):
            repairs.good_rows(piece, add)
        return parts, repairs

    found = [pl.DataFrame(schema=ITEMS)]
    for parts, repairs in in_order(read, files):
        found += parts
        reading.repairs.include(repairs)
    items = pl.concat(found)  # in its chunks: a copy of all texts would double their memory
    distinct = _first_rows(items)
    if required:
        reading.repairs.repeated_items += len(items) - len(distinct)
    return distinct


def _only(column: pl.Series, mask: pl.Series) -> pl.Series:
    """The texts where the mask is true, in memory of their own, and "" elsewhere."""
    if mask.all():
        return column
    chosen = column.filter(mask) + ""  # a copy: the rest of the column can go
    places = pl.select(pl.when(mask).then(mask.cum_sum() - 1)).to_series()
    return chosen.gather(places).fill_null("").alias(column.name)


def _sought(wanted: Numbered, written: pl.Series) -> pl.Series:
    """bool: whether ids, as they stand in a file, are wanted, or have to be looked at as `ids` does."""
    odd = (written.str.len_bytes() == 0) | written.str.contains("\0", literal=True) | written.str.ends_with(".0")
    odd |= written.is_in(NO_ID)
    return pl.Series(wanted.find(written) >= 0) | odd


def _item_pieces(
    path: Path, names: Names, options: TableOptions, repairs: Repairs, wanted: Wanted | None = None
) -> Iterator[Piece]:
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


def _do_not_meet(log: Path, wanted: pl.Series, item_files: Sequence[Path], options: TableOptions) -> NoReturn:
    """Raise DataError that the two tables share no item, with examples of both and, where it is plain, the reason."""
    shown: str | None = None
    lost = {_plain(written): written for written in wanted.to_list()}
    for path in item_files:
        names = names_of(path, options, items=True)
        for piece in _item_pieces(path, names, options, Repairs(skip_bad_lines=True)):
            present = Repairs(skip_bad_lines=True).good_rows(piece, lambda piece: ids(piece, names.item))  # noqa: B023
            shown = shown or (present[0] if len(present) else None)
            for there in present:
                if _plain(there) in lost:
                    raise DataError(
                        f"{item_files[0]}: contains none of the items in {log} as they are written there: "
                        f"{_shown(lost[_plain(there)])} there is {_shown(there)} here. "
                        f"{_why_unlike(lost[_plain(there)], there)}"
                    )
    raise DataError(
        f"{item_files[0]}: contains none of the items in {log}; do the two files belong together? "
        f"An item there is {_shown(wanted[0])}" + (f", and here {_shown(shown)}" if shown else "")
    )


def _why_unlike(one: str, other: str) -> str:
    """Why two ids that mean the same are not the same text, and what to do."""
    if one.strip() == other.strip():
        return "One of them has spaces around it; remove them"
    if one.strip().upper() == other.strip().upper():
        return "Capital letters count; write both alike"
    if _bare(one) == _bare(other):
        return "One of them has quotes or invisible characters around it; remove them"
    if unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other):
        return "Their accents or letters are other characters that look alike; write both in one form (NFC)"
    return (
        "A tool took ids for numbers, so that they lost leading zeros or became fractions; write both as texts "
        "(pandas: dtype=str)"
    )


def _shown(text: str) -> str:
    """An id for an error, with characters that cannot be seen, or look like others, as escapes."""
    return short(ascii(text) if _HIDDEN.search(text) or unicodedata.normalize("NFKC", text) != text else repr(text))


def _bare(text: str) -> str:
    """An id without quotes, signs of Excel, spaces and invisible characters around it."""
    return _AROUND.sub("", text)


def _plain(text: str) -> str:
    """An id without what tools lose or add that take it for a number: zeros at its start, a fraction, an exponent."""
    text = unicodedata.normalize("NFKC", _bare(text))
    try:
        number = float(text)
    except ValueError:
        return text.lstrip("0").upper()
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else text
