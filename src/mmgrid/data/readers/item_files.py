"""A table of items alone, without interactions."""

from pathlib import Path

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.items import Items
from mmgrid.data.readers.item_rows import item_table
from mmgrid.data.readers.options import TableOptions


def read_items(path: Path, options: TableOptions | None = None, *, titles: bool = True) -> Items:
    """The items of a file: item_id (or parent_asin), title and, if there is one, description; sorted by id.

    Texts are mended, and of several rows of an item the first with a title counts, as when a domain is prepared.

    Args:
        titles: whether each item needs a title, as for models that read texts.

    Raises DataError if the file is missing, unreadable, empty or lacks columns, or an item has no title.
    """
    table = item_table([path], options or TableOptions(), titles=titles)
    if table.is_empty():
        raise DataError(f"{path}: contains no items")
    untitled = table.filter(pl.col("title") == "")
    if titles and len(untitled):
        raise DataError(
            f"{path}: {len(untitled):,} items have no title, such as {untitled['item_id'][0]!r}; add titles, or remove them"
        )
    return Items.from_table(table)
