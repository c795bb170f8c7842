"""A domain from its files: those of interactions and, if there are any, those of items."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import polars as pl

from mmgrid.data.calendar import DAY_MS
from mmgrid.data.corpus import INTERACTIONS_FILE, ITEMS_FILE, stored_name
from mmgrid.data.errors import DataError
from mmgrid.data.log import Log
from mmgrid.data.numbering import Numbered, all_distinct
from mmgrid.data.raw import ITEMS, RawDomain, raw_domain
from mmgrid.data.readers import json_lines, tables
from mmgrid.data.readers.chosen_lines import Wanted
from mmgrid.data.readers.mending import mended
from mmgrid.data.readers.names import Names, domain_name, names_of, one_domain
from mmgrid.data.readers.options import TableOptions, kept_from
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.times import Times
from mmgrid.data.readers.values import ids, ratings, texts


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
    reading = _Reading(name, options, Repairs(options.skip_bad_lines), None if future else _tomorrow_ms())
    log, unfiltered = _interactions(interaction_files, reading)
    sources = item_files or interaction_files
    if item_files or has_texts(interaction_files, item_files, options):
        mend = not _prepared_here(interaction_files, item_files)
        items = _items(sources, log.items, reading, required=bool(item_files), mend=mend)
    else:
        items = log.items.ids.to_frame("item_id").with_columns(title="item_id", description=pl.lit(""))
    if len(log) and items.is_empty():
        _do_not_meet(interaction_files[0], log.items.ids, item_files, options)
    return raw_domain(
        name,
        log,
        items,
        interaction_files[0],
        sources[0],
        unfiltered=unfiltered if are_reviews is None else are_reviews,
        repairs=reading.repairs.summary(),
    )


@dataclass(frozen=True)
class _Reading:
    """What holds for all files of a domain."""

    domain: str
    options: TableOptions
    repairs: Repairs
    latest_ms: int | None


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


def _interactions(files: Sequence[Path], reading: _Reading) -> tuple[Log, bool]:
    """The interactions of all files, and whether they are reviews, which nobody filtered."""
    options, repairs = reading.options, reading.repairs
    names = names_of(files[0], options)
    times = Times(names.time, options.time_unit, reading.latest_ms)
    users, items = ([pl.Series([], dtype=pl.String)] for _ in range(2))

    def add(piece: Piece) -> None:
        piece = one_domain(piece, names, reading.domain)
        if names.rating is not None and options.min_rating is not None:
            piece = piece.kept(ratings(piece, names.rating) >= options.min_rating)
        of_user, of_item = ids(piece, names.user), ids(piece, names.item)
        times.add(piece)
        users.append(of_user)
        items.append(of_item)

    for path in files:
        for piece in _interaction_pieces(path, names, options, repairs):
            repairs.good_rows(piece, add)
    timestamps = times.milliseconds(repairs)
    kept = timestamps.is_not_null()
    if not kept.any() and names.domain is not None:
        _no_rows(files, reading.domain, names, options)
    if not kept.any() and options.min_rating is not None:
        raise DataError(f"{files[0]}: no {names.rating} is at least {options.min_rating:g}; lower min_rating")
    reviews = tables.file_format(files[0]) == "jsonl" and names.item == "parent_asin"
    log = Log(_numbered(users, kept), _numbered(items, kept), timestamps.drop_nulls().to_numpy())
    return log, reviews


def _numbered(parts: list[pl.Series], kept: pl.Series) -> Numbered:
    """The kept rows of a column as numbers; its parts are given up, since they may fill half of the memory."""
    column = pl.concat(parts, rechunk=True)
    parts.clear()
    return Numbered.of(column if kept.all() else column.filter(kept))


def _interaction_pieces(path: Path, names: Names, options: TableOptions, repairs: Repairs) -> Iterator[Piece]:
    rating = names.rating if options.min_rating is not None else None
    others = [name for name in (names.domain, rating) if name is not None]
    if tables.file_format(path) == "jsonl":
        return json_lines.read_interactions(path, names.user, names.item, names.time, others, repairs)
    columns = list(dict.fromkeys([names.user, names.item, names.time, *others]))
    numbers = [] if "%" in (options.time_unit or "") else [names.time]  # a form may count zeros at the start
    return tables.read(path, columns, options.encoding, repairs, numbers)


def item_table(files: Sequence[Path], options: TableOptions) -> pl.DataFrame:
    """item_id, title and description of all items in some files; of several rows of an item, the first with a title.

    Raises DataError as `read_files`.
    """
    reading = _Reading("", options, Repairs(options.skip_bad_lines), None)
    return _items(files, None, reading, required=True, mend=True)


def _items(
    files: Sequence[Path], wanted: Numbered | None, reading: _Reading, *, required: bool, mend: bool
) -> pl.DataFrame:
    """item_id, title and description of the wanted items, by default all; of several rows of an item, the first with a
    title."""
    names = names_of(files[0], reading.options, items=True, required=required)
    parts = [pl.DataFrame(schema=ITEMS)]
    repairs, least = reading.repairs, kept_from(reading.options)
    counts = None if wanted is None or least <= 1 else wanted.counts()

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
        description = _joined([text(piece, name) for name in names.descriptions], len(piece.frame))
        if counts is not None and numbers is not None:
            description = _only(description, pl.Series(counts[numbers] >= least))
        columns = {
            "item_id": piece.frame[names.item],
            "title": text(piece, names.title, " ") if names.title else "",
            "description": description,
        }
        parts.append(pl.DataFrame(columns, schema=ITEMS))

    for path in files:
        for piece in _item_pieces(
            path, names, reading.options, repairs, None if wanted is None else partial(_sought, wanted)
        ):
            repairs.good_rows(piece, add)
    found = pl.concat(parts)  # in its chunks: a copy of all texts would double their memory
    distinct = _first_rows(found)
    if required:
        repairs.repeated_items += len(found) - len(distinct)
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
                        f"{lost[_plain(there)]!r} there is {there!r} here. A tool took ids for numbers, so that they lost "
                        "leading zeros or became fractions; write both as texts (pandas: dtype=str)"
                    )
    raise DataError(
        f"{item_files[0]}: contains none of the items in {log}; do the two files belong together? "
        f"An item there is {wanted[0]!r}" + (f", and here {shown!r}" if shown else "")
    )


def _plain(text: str) -> str:
    """An id without what tools lose or add that take it for a number: zeros at its start, a fraction, an exponent."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        return text.lstrip("0").upper()
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else text


def _no_rows(files: Sequence[Path], domain: str, names: Names, options: TableOptions) -> None:
    """Raise DataError if no row names the domain."""
    found: dict[str, None] = {}
    for path in files:
        for piece in _interaction_pieces(path, names, options, Repairs(skip_bad_lines=True)):
            found |= dict.fromkeys(
                piece.frame[str(names.domain)].cast(pl.String).drop_nulls().unique(maintain_order=True)
            )
    if any(domain_name(value) == domain for value in found):
        return
    listed = ", ".join(list(found)[:10]) + (" …" if len(found) > 10 else "")
    raise DataError(
        f"{files[0]}: no row is of the domain {domain}; its column {names.domain} holds {listed or 'nothing'}"
    )
