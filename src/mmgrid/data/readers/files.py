"""A domain from its files: those of interactions and, if there are any, those of items."""

import re
import time
import unicodedata
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

import polars as pl

from mmgrid.data.calendar import DAY_MS
from mmgrid.data.corpus import INTERACTIONS_FILE, ITEMS_FILE, stored_name
from mmgrid.data.errors import DataError, short
from mmgrid.data.log import Log
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers import tables
from mmgrid.data.readers.interaction_files import Reading, read_log
from mmgrid.data.readers.item_rows import ItemRows, item_pieces
from mmgrid.data.readers.names import names_of
from mmgrid.data.readers.options import TableOptions
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.values import ids
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
    log, unfiltered, items = _tables(interaction_files, item_files, reading)
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


def _tables(
    interaction_files: Sequence[Path], item_files: Sequence[Path], reading: Reading
) -> tuple[Log, bool, pl.DataFrame]:
    """The interactions, whether they are reviews, and the rows of their items."""
    if not has_texts(interaction_files, item_files, reading.options):
        log, unfiltered = read_log(interaction_files, reading)
        title = log.items.ids.str.strip_chars().alias("title")
        return (
            log,
            unfiltered,
            pl.DataFrame([log.items.ids.alias("item_id"), title]).with_columns(description=pl.lit("")),
        )
    rows = ItemRows(item_files or interaction_files, reading, required=bool(item_files))
    with rows.begun() if item_files else nullcontext():
        log, unfiltered = read_log(interaction_files, reading)
        return log, unfiltered, rows.table(log.items, mend=not _prepared_here(interaction_files, item_files))


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


def _do_not_meet(log: Path, wanted: pl.Series, item_files: Sequence[Path], options: TableOptions) -> NoReturn:
    """Raise DataError that the two tables share no item, with examples of both and, where it is plain, the reason."""
    shown: str | None = None
    lost = {_plain(written): written for written in wanted.to_list()}
    for path in item_files:
        names = names_of(path, options, items=True)
        for piece in item_pieces(path, names, options, Repairs(skip_bad_lines=True)):
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
