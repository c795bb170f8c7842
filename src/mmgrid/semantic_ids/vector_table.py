"""Item vectors provided by the user: a parquet file with the columns `item_id` and `vector`, one row per item."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.files.damaged_tables import DAMAGED
from mmgrid.semantic_ids.item_vectors import Floats

COLUMNS = ("item_id", "vector")


def read_vectors(path: Path, ids: npt.NDArray[np.str_]) -> Floats:
    """float32 [N, D]: the vectors of the items `ids` (str [N]), in their order; other rows of the file are ignored.

    Args:
        path: a parquet file; `item_id` is text (whole numbers are read as text), `vector` a list or array of numbers.

    Raises:
        DataError: the file is missing, not parquet, or lacks a column; or an item has no vector, several vectors, one
            of another width, or one with a null, NaN or infinity. The message counts the items and names one.
    """
    rows = _rows(path, ids)
    _refuse(
        path, rows.filter(rows["item_id"].is_duplicated())["item_id"], len(ids), "several rows", "keep one row each"
    )
    missing = rows.filter(pl.col("found").is_null())["item_id"]
    _refuse(
        path, missing, len(ids), "no row", "embed these items as well, and check that the ids match those of the data"
    )
    _refuse(
        path, rows.filter(pl.col("vector").is_null())["item_id"], len(ids), "no vector", "embed these items as well"
    )
    if not len(ids):
        return np.empty((0, 0), np.float32)
    width = _width(path, rows)
    flat = rows["vector"].explode(empty_as_null=False, keep_nulls=True).fill_null(float("nan"))
    with np.errstate(over="ignore"):  # overflow becomes infinity, which is reported below
        vectors = flat.to_numpy().reshape(len(ids), width).astype(np.float32, copy=True)
    bad = rows["item_id"].gather(np.flatnonzero(~np.isfinite(vectors).all(axis=1)))
    _refuse(path, bad, len(ids), "a null, NaN or infinity in their vector", "look for empty texts or an overflow")
    return vectors


def _rows(path: Path, ids: npt.NDArray[np.str_]) -> pl.DataFrame:
    """item_id, vector (list of floats) and found, in the order of `ids`; nulls for items that the file lacks."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a parquet file with the columns {' and '.join(COLUMNS)}")
    try:
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
    except (*DAMAGED, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from None
    for column in COLUMNS:
        if column not in schema:
            raise DataError(f"{path}: no column {column!r}; it has {', '.join(schema.names())}")
    kind = schema["vector"]
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else None
    if inner is None or not inner.is_numeric():
        raise DataError(f"{path}: column 'vector' is {kind}; expected a list or array of numbers")
    if not (schema["item_id"] == pl.String or schema["item_id"].is_integer()):
        raise DataError(f"{path}: column 'item_id' is {schema['item_id']}; expected text")
    given = scan.select(
        pl.col("item_id").cast(pl.String),
        pl.col("vector").cast(pl.List(pl.Float64 if inner == pl.Float64 else pl.Float32)),
        found=pl.lit(True),
    )
    wanted = pl.LazyFrame({"item_id": ids.tolist()}, schema={"item_id": pl.String})
    try:
        return wanted.join(given, on="item_id", how="left", maintain_order="left_right").collect()
    except (*DAMAGED, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from None


def _width(path: Path, rows: pl.DataFrame) -> int:
    """The common width of all vectors."""
    widths = rows["vector"].list.len()
    found = widths.value_counts().sort(["count", "vector"], descending=True)
    width = int(found["vector"][0])
    others = rows["item_id"].filter(widths != width)
    if len(others):
        example = int(widths.filter(widths != width)[0])
        raise DataError(
            f"{path}: {len(others)} of {len(rows)} items have a vector of another width than {width}, "
            f"such as {others[0]!r} with {example}: embed all items with one model"
        )
    if width == 0:
        raise DataError(f"{path}: all vectors are empty; expected lists of numbers")
    return width


def _refuse(path: Path, items: pl.Series, n_items: int, what: str, remedy: str) -> None:
    """Raise DataError if `items` is not empty."""
    distinct = items.unique(maintain_order=True)
    if len(distinct):
        raise DataError(f"{path}: {len(distinct)} of {n_items} items have {what}, such as {distinct[0]!r}: {remedy}")
