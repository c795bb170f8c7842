"""Comma-separated tables with a header line, such as the 5-core files of Amazon Reviews 2023.

Values are read as text and converted here, so that an error can name the line of a wrong value.
"""

import csv
import io
from pathlib import Path
from typing import NoReturn

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.raw import require_columns
from mmgrid.data.readers.lines import Block, blocks


def read_interactions(path: Path, header: list[str], item_key: str) -> pl.DataFrame:
    """A table of user_id, item_id and timestamp in file order; `item_key` is the item column of the file."""
    needed = ["user_id", item_key, "timestamp"]
    require_columns(header, needed, path)
    tables = [_parse(path, block, header, needed) for block in blocks(path)]
    return pl.concat(tables).rename({item_key: "item_id"})


def read_items(path: Path, header: list[str], item_key: str) -> pl.DataFrame:
    """A table of item_id, title and, if present, description. Quoted texts may contain line breaks."""
    require_columns(header, [item_key, "title"], path)
    data = b"".join(block.data for block in blocks(path))
    wanted = [name for name in (item_key, "title", "description") if name in header]
    try:
        table = pl.read_csv(io.BytesIO(data), infer_schema=False, columns=wanted)
    except pl.exceptions.PolarsError as error:
        _explain_items(path, data, header, error)
    return table.select(wanted).rename({item_key: "item_id"})


def read_header(path: Path) -> list[str]:
    """Column names from the first line; empty if the file is empty."""
    for block in blocks(path, 1 << 16):
        first = block.data.splitlines()[0].decode("utf-8-sig", errors="replace")
        return next(csv.reader([first]), [])
    return []


def _parse(path: Path, block: Block, header: list[str], needed: list[str]) -> pl.DataFrame:
    schema = dict.fromkeys(header, pl.String)
    try:
        table = pl.read_csv(
            io.BytesIO(block.data), has_header=False, schema=schema, skip_rows=int(block.first_line == 1)
        )
    except pl.exceptions.NoDataError:
        table = pl.DataFrame(schema=schema)
    except pl.exceptions.PolarsError as error:
        _explain(path, block, header, needed, error)
    blank = pl.all_horizontal(pl.all().is_null())
    table = table.filter(~blank).select(needed).with_columns(pl.col("timestamp").cast(pl.Int64, strict=False))
    if any(table.null_count().row(0)):
        _explain(path, block, header, needed, "a value is missing or not a number")
    return table


def _explain(path: Path, block: Block, header: list[str], needed: list[str], error: object) -> NoReturn:
    """Raise DataError naming the first wrong line."""
    for number, line in block.lines():
        if number == 1:
            continue
        shown = line[:80].decode(errors="replace")
        try:
            fields = next(csv.reader([line.decode()]))
        except (UnicodeDecodeError, csv.Error) as cause:
            raise DataError(f"{path}:{number}: {cause} in {shown!r}; fix or remove the line") from None
        if len(fields) != len(header):
            raise DataError(
                f"{path}:{number}: {len(fields)} values for {len(header)} columns ({', '.join(header)}) in "
                f"{shown!r}; fix or remove the line"
            )
        row = dict(zip(header, fields, strict=True))
        for name in needed:
            if not row[name]:
                raise DataError(f"{path}:{number}: {name} is missing in {shown!r}; fix or remove the line")
        if not row["timestamp"].lstrip("+-").isdecimal():
            raise DataError(
                f"{path}:{number}: timestamp is {row['timestamp']!r}; expected a whole number of milliseconds"
            )
    last = block.first_line + block.data.count(b"\n")
    raise DataError(f"{path}: lines {block.first_line} to {last} cannot be read as CSV ({error}); fix the file")


def _explain_items(path: Path, data: bytes, header: list[str], error: Exception) -> NoReturn:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        for fields in reader:
            if fields and len(fields) != len(header):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(fields)} values for {len(header)} columns "
                    f"({', '.join(header)}); fix or remove the row"
                )
    except (UnicodeDecodeError, csv.Error) as cause:
        raise DataError(f"{path}: cannot be read as CSV ({cause}); fix the file") from error
    raise DataError(f"{path}: cannot be read as CSV ({error}); fix the file") from error
