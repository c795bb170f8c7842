"""A domain from its files: those of interactions and, if there are any, those of items."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.raw import INTERACTIONS, ITEMS, RawDomain, raw_domain
from mmgrid.data.readers import json_lines, tables
from mmgrid.data.readers.names import Names, domain_name, names_of, one_domain
from mmgrid.data.readers.options import TableOptions
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.times import Times
from mmgrid.data.readers.values import ids, ratings, texts


def read_files(ratings: Path, items: Path, name: str, options: TableOptions | None = None) -> RawDomain:
    """Read the domain `name` from a file of interactions and a file of items.

    The item column is `parent_asin`, as in Amazon Reviews 2023, or `item_id`. A file of reviews, JSON lines with
    `parent_asin`, is marked as unfiltered (see `RawDomain`). Only items with an interaction are kept, since an item
    file may hold millions of others.

    Raises DataError if a file is missing, unreadable or lacks columns, or if the two files share no item.
    """
    return read_domain([Path(ratings)], [Path(items)], name, options or TableOptions())


def read_domain(
    interaction_files: Sequence[Path], item_files: Sequence[Path], name: str, options: TableOptions
) -> RawDomain:
    """Read a domain from the files of its interactions and of its items, each in the order given.

    Without files of items, titles and descriptions are those in the interactions; without these, the title of an item
    is its id.

    Raises DataError as `read_files`, naming the row of a value that cannot be read.
    """
    for path in (*interaction_files, *item_files):
        tables.file_format(path)
    interactions, unfiltered = _interactions(interaction_files, name, options)
    wanted = interactions.select("item_id").unique()
    sources = item_files or interaction_files
    if item_files or has_texts(interaction_files, item_files, options):
        items = _items(sources, name, wanted, options, required=bool(item_files))
    else:
        items = wanted.with_columns(title="item_id", description=pl.lit(""))
    if len(interactions) and items.is_empty():
        shown = _first_item(item_files, options)
        raise DataError(
            f"{item_files[0]}: contains none of the items in {interaction_files[0]}; do the two files belong together? "
            f"An item there is {interactions['item_id'][0]!r}" + (f", and here {shown!r}" if shown else "")
        )
    return raw_domain(name, interactions, items, interaction_files[0], sources[0], unfiltered=unfiltered)


def has_texts(interaction_files: Sequence[Path], item_files: Sequence[Path], options: TableOptions) -> bool:
    """Whether items have titles of their own: a file of items, or a title in the interactions."""
    if item_files:
        return True
    return names_of(interaction_files[0], options, items=True).title is not None


def _interactions(files: Sequence[Path], domain: str, options: TableOptions) -> tuple[pl.DataFrame, bool]:
    """user_id, item_id and timestamp of all files, and whether they are reviews, which nobody filtered."""
    names = names_of(files[0], options)
    times = Times(names.time, options.time_unit)
    parts = [pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})]
    for path in files:
        for piece in _interaction_pieces(path, names, options):
            piece = one_domain(piece, names, domain)
            if names.rating is not None and options.min_rating is not None:
                piece = piece.kept(ratings(piece, names.rating) >= options.min_rating)
            parts.append(pl.DataFrame({"user_id": ids(piece, names.user), "item_id": ids(piece, names.item)}))
            times.add(piece)
    table = pl.concat(parts).with_columns(times.milliseconds().alias("timestamp"))
    if table.is_empty() and names.domain is not None:
        _no_rows(files, domain, names, options)
    if table.is_empty() and options.min_rating is not None:
        raise DataError(f"{files[0]}: no {names.rating} is at least {options.min_rating:g}; lower min_rating")
    reviews = tables.file_format(files[0]) == "jsonl" and names.item == "parent_asin"
    return table.select(INTERACTIONS.names()), reviews


def _interaction_pieces(path: Path, names: Names, options: TableOptions) -> Iterator[Piece]:
    rating = names.rating if options.min_rating is not None else None
    others = [name for name in (names.domain, rating) if name is not None]
    if tables.file_format(path) == "jsonl":
        return json_lines.read_interactions(path, names.user, names.item, names.time, others)
    return tables.read(path, list(dict.fromkeys([names.user, names.item, names.time, *others])), options.encoding)


def _items(
    files: Sequence[Path], domain: str, wanted: pl.DataFrame, options: TableOptions, *, required: bool
) -> pl.DataFrame:
    """item_id, title and description of the wanted items; of several rows of an item, the first with a title."""
    names = names_of(files[0], options, items=True, required=required)
    parts = [pl.DataFrame(schema=ITEMS)]
    for path in files:
        for piece in _item_pieces(path, names, options):
            piece = one_domain(piece, names, domain)
            table = pl.DataFrame(
                {
                    "item_id": ids(piece, names.item),
                    "title": texts(piece, names.title) if names.title else "",
                    "description": _joined([texts(piece, name) for name in names.descriptions], len(piece.frame)),
                },
                schema=ITEMS,
            )
            parts.append(_first_rows(table.join(wanted, on="item_id", how="semi", maintain_order="left")))
    return _first_rows(pl.concat(parts))


def _item_pieces(path: Path, names: Names, options: TableOptions) -> Iterator[Piece]:
    if tables.file_format(path) == "jsonl":
        return json_lines.read_items(path, names.item, names.title or "title", list(names.descriptions))
    more = [name for name in (names.title, *names.descriptions, names.domain) if name is not None]
    return tables.read(path, list(dict.fromkeys([names.item, *more])), options.encoding)


def _first_rows(items: pl.DataFrame) -> pl.DataFrame:
    """One row for each item: the first that has a title, or else the first."""
    if not items["item_id"].is_duplicated().any():
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


def _first_item(files: Sequence[Path], options: TableOptions) -> str | None:
    for path in files:
        for piece in _item_pieces(path, names_of(path, options, items=True), options):
            if len(piece.frame):
                return ids(piece, names_of(path, options, items=True).item)[0]
    return None


def _no_rows(files: Sequence[Path], domain: str, names: Names, options: TableOptions) -> None:
    """Raise DataError if no row names the domain."""
    found: dict[str, None] = {}
    for path in files:
        for piece in _interaction_pieces(path, names, options):
            found |= dict.fromkeys(
                piece.frame[str(names.domain)].cast(pl.String).drop_nulls().unique(maintain_order=True)
            )
    if any(domain_name(value) == domain for value in found):
        return
    listed = ", ".join(list(found)[:10]) + (" …" if len(found) > 10 else "")
    raise DataError(
        f"{files[0]}: no row is of the domain {domain}; its column {names.domain} holds {listed or 'nothing'}"
    )
