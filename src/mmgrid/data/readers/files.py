"""A domain from two files, each in the format that its extension names: parquet, csv(.gz) or jsonl(.gz)."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.raw import RawDomain, raw_domain, require_columns
from mmgrid.data.readers import csv_table, json_lines

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")


def read_files(ratings: Path, items: Path, name: str) -> RawDomain:
    """Read the domain `name` from a file of interactions and a file of items.

    The item column is `parent_asin`, as in Amazon Reviews 2023, or `item_id`. A file of reviews, JSON lines with
    `parent_asin`, is marked as unfiltered (see `RawDomain`). Only items with an interaction are kept, since an item
    file may hold millions of others.

    Raises DataError if a file is missing, unreadable or lacks columns, or if the two files share no item.
    """
    ratings, items = Path(ratings), Path(items)
    kind, item_kind = file_format(ratings), file_format(items)
    for path in (ratings, items):
        if not path.is_file():
            raise DataError(f"{path}: no such file; {listing(path.parent)}")
    item_key = _item_key(ratings, kind, ["user_id", "timestamp"])
    if kind == "parquet":
        interactions = read_parquet(ratings, ["user_id", item_key, "timestamp"]).rename({item_key: "item_id"})
    elif kind == "csv":
        interactions = csv_table.read_interactions(ratings, csv_table.read_header(ratings), item_key)
    else:
        interactions = json_lines.read_interactions(ratings, item_key)
    wanted = interactions.select(pl.col("item_id").cast(pl.String)).unique()
    table = _read_items(items, item_kind, wanted)
    if len(interactions) and table.is_empty():
        raise DataError(f"{items}: contains none of the items in {ratings}; do the two files belong together?")
    reviews = kind == "jsonl" and item_key == "parent_asin"
    return raw_domain(name, interactions, table, ratings, items, unfiltered=reviews)


def file_format(path: Path) -> str:
    """parquet, csv or jsonl, by the file's extension. Raises DataError for any other."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix.split(".")[1]
    raise DataError(f"{path}: unknown format; its name should end with one of {', '.join(SUFFIXES)}")


def read_parquet(path: Path, columns: list[str]) -> pl.DataFrame:
    """The wanted columns, as far as the file has them. Raises DataError if it is not a parquet file."""
    try:
        table = pl.scan_parquet(path, glob=False)
        present = table.collect_schema().names()
        return table.select([column for column in columns if column in present]).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read as parquet ({error}); get or write the file again") from error


def listing(folder: Path, limit: int = 20) -> str:
    """The content of a folder, for an error message."""
    if not folder.is_dir():
        return f"the folder {folder} is not there either"
    names = sorted(entry.name for entry in folder.iterdir())
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{folder} holds {', '.join(names[:limit]) or 'nothing'}{more}"


def _read_items(path: Path, kind: str, wanted: pl.DataFrame) -> pl.DataFrame:
    item_key = _item_key(path, kind, ["title"] if kind != "jsonl" else [])
    tables: Iterable[pl.DataFrame]
    if kind == "parquet":
        tables = [read_parquet(path, [item_key, "title", "description"]).rename({item_key: "item_id"})]
    elif kind == "csv":
        tables = [csv_table.read_items(path, csv_table.read_header(path), item_key)]
    else:
        tables = json_lines.read_items(path, item_key)
    kept = [
        table.with_columns(pl.col("item_id").cast(pl.String)).join(
            wanted, on="item_id", how="semi", maintain_order="left"
        )
        for table in tables
    ]
    return pl.concat(kept) if kept else pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})


def _item_key(path: Path, kind: str, others: list[str]) -> str:
    """The column of item ids. Raises DataError if it or one of `others` is missing."""
    if kind == "parquet":
        try:
            columns = pl.scan_parquet(path, glob=False).collect_schema().names()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{path}: cannot be read as parquet ({error}); get or write it again") from error
    else:
        columns = csv_table.read_header(path) if kind == "csv" else json_lines.first_keys(path)
    key = "parent_asin" if "parent_asin" in columns and "item_id" not in columns else "item_id"
    if not columns:
        raise DataError(f"{path}: the file is empty; get it again")
    require_columns(columns, [*others, key], path)
    return key
