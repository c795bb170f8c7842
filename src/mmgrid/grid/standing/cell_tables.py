"""Reads the tables of built cells, after their digest was compared with the record.

A changed bit in a parquet file may be read as another value, or end the whole process, so it is looked for first.
"""

import json
from typing import Any

import polars as pl

from mmgrid.files.damaged_tables import DAMAGED
from mmgrid.grid.cells.cell import Cell
from mmgrid.store import Store, StoreError


def read_table(store: Store, cell: Cell, file: str) -> pl.DataFrame:
    """The parquet file `file` of a built cell.

    Raises:
        StoreError: it is damaged or cannot be read; the message names cell and file.
    """
    path = store.sound(cell.address, file)
    try:
        return pl.read_parquet(path, glob=False)
    except (*DAMAGED, OSError) as error:
        raise StoreError(f"{cell.name}: {path}: cannot be read as a table ({error})") from error


def read_facts(store: Store, cell: Cell, file: str) -> Any:
    """The JSON file `file` of a built cell. Raises StoreError as `read_table`."""
    path = store.sound(cell.address, file)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise StoreError(f"{cell.name}: {path}: cannot be read as JSON ({error})") from error
