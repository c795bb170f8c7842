"""A table from a file, by the extension of its name: its columns, and its rows in pieces.

Only the wanted columns are read.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.raw import require_columns
from mmgrid.data.readers import delimited, json_lines
from mmgrid.data.readers.arrow_lengths import claims_too_much
from mmgrid.data.readers.lines import blocks
from mmgrid.data.readers.nesting import is_too_deep
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.unpacking import refuse_impostor, unreadable
from mmgrid.files.damaged_tables import DAMAGED
from mmgrid.files.impostors import no_file
from mmgrid.machine.beside import ahead

# pandas gives texts with an offset (+02:00) times of such a zone, at which Polars otherwise panics. What they mean is the
# same without its names of zones.
os.environ.setdefault("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")

_ROWS = 1 << 18
_MOST_ROWS_A_BYTE = 100  # rows of different users or times take a byte or more
_DEEPEST = 16  # fields of fields that a column can be
COMPRESSED = ("", ".gz", ".zst")
_OF_KIND = {
    "delimited": (".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".item"),
    "jsonl": (".jsonl", ".json", ".ndjson", ".jl"),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
SUFFIXES = {
    f"{suffix}{packed}": kind
    for kind, suffixes in _OF_KIND.items()
    for suffix in suffixes
    for packed in (COMPRESSED if kind in ("delimited", "jsonl") else ("",))
}


def file_format(path: Path) -> str:
    """delimited, jsonl, parquet or arrow, by the file's extension. Raises DataError for any other."""
    for suffix, kind in SUFFIXES.items():
        if path.name.lower().endswith(suffix):
            return kind
    if path.name == "-" and not path.is_file():
        raise DataError(f"{path}: tables are read more than once, so not from a stream; write it into a file first")
    other = no_file(path)
    if other:
        raise DataError(f"{path}: {other}")
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.zst")):
        raise DataError(f"{path}: is an archive of files; unpack it")
    if path.is_file():
        refuse_impostor(path)
    known = [suffix for suffixes in _OF_KIND.values() for suffix in suffixes]
    raise DataError(
        f"{path}: unknown format; its name should end with one of {', '.join(known)}; texts may be compressed "
        "(.csv.gz, .csv.zst)"
    )


def column_names(path: Path, wanted: tuple[str, ...] = (), encoding: str | None = None) -> list[str]:
    """The columns of a table, for JSON lines the keys of the first ones.

    Args:
        wanted: columns that the caller looks for; they decide how the values of a text file are separated.

    Raises DataError if the file is missing, empty or unreadable.
    """
    kind = file_format(path)
    if not path.is_file():
        other = no_file(path)
        raise DataError(f"{path}: {other}" if other else f"{path}: no such file; {listing(path.parent)}")
    if kind == "delimited":
        columns = delimited.column_names(path, wanted, encoding)
    elif kind == "jsonl":
        columns = json_lines.first_keys(path)
    else:
        with _readable(path, kind):
            if is_too_deep(path, kind):
                raise RecursionError
            if kind == "arrow" and claims_too_much(path):
                raise pl.exceptions.ComputeError("it is cut off, or holds less than it says")
            schema = (
                pl.scan_parquet(path, glob=False).collect_schema() if kind == "parquet" else _arrow(path, None).schema
            )
            columns = _with_fields(schema, _DEEPEST)
    if not columns:
        if kind in ("delimited", "jsonl") and any(block.data.strip() for block in blocks(path, encoding=encoding)):
            raise DataError(f"{path}: its first lines name no columns; get it again")
        raise DataError(f"{path}: the file is empty; get it again")
    return columns


def read(
    path: Path,
    names: list[str],
    encoding: str | None = None,
    repairs: Repairs | None = None,
    numbers: Sequence[str] = (),
) -> Iterator[Piece]:
    """The wanted columns of all rows, in pieces, the next of which is read while the last one is used.

    Args:
        numbers: columns of text files that may be read as whole numbers, see `delimited.read`.

    Raises DataError if a column is missing, or the file is unreadable.
    """
    pieces = _pieces(path, names, encoding, repairs, numbers)
    if repairs is not None and repairs.skip_bad_lines:
        return pieces  # what makes a piece and what uses it both count bad rows, one after the other
    return ahead(pieces)


def _pieces(
    path: Path, names: list[str], encoding: str | None, repairs: Repairs | None, numbers: Sequence[str]
) -> Iterator[Piece]:
    kind = file_format(path)
    if kind == "delimited":
        column_names(path, tuple(names), encoding)  # says why there are none
        yield from delimited.read(path, names, encoding, repairs, numbers)
        return
    assert kind != "jsonl", "its values need types; see `json_lines`"
    require_columns(column_names(path), names, path)
    rows_before = 0
    with _readable(path, kind):
        for table in _parquet(path, names) if kind == "parquet" else [_arrow(path, names)]:
            yield Piece(path, table, rows_before)
            rows_before += len(table)


def listing(folder: Path, limit: int = 20) -> str:
    """The content of a folder, for an error message."""
    if not folder.is_dir():
        return f"the folder {folder} is not there either"
    names = sorted(entry.name for entry in folder.iterdir())
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{folder} holds {', '.join(names[:limit]) or 'nothing'}{more}"


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise DataError(f"{path}: its columns are nested too deeply; write flat ones") from error
    except (*DAMAGED, OSError) as error:
        refuse_impostor(path)
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from error
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; get it again") from error
        why = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: cannot be read as {kind} ({why}); get or write the file again") from error


def _with_fields(schema: Mapping[str, Any], depth: int) -> list[str]:
    """The columns, and after them the fields of nested ones, as in `details.brand`, down to a depth."""
    nested = [
        f"{name}.{field}"
        for name, dtype in schema.items()
        if isinstance(dtype, pl.Struct) and depth
        for field in _with_fields({field.name: field.dtype for field in dtype.fields}, depth - 1)
    ]
    return [*schema, *(name for name in nested if name not in schema)]


def _column(schema: pl.Schema, name: str) -> pl.Expr:
    """A column, or a field of a nested one, under its whole name."""
    found, fields, rest = None, dict(schema), name
    while rest:
        part = rest if rest in fields else max((field for field in fields if rest.startswith(f"{field}.")), key=len)
        found = pl.col(part) if found is None else found.struct.field(part)
        dtype = fields[part]
        fields = dict(dtype.to_schema()) if isinstance(dtype, pl.Struct) else {}
        rest = rest[len(part) + 1 :]
    assert found is not None
    return found.alias(name)


def _parquet(path: Path, names: list[str]) -> Iterator[pl.DataFrame]:
    """The columns of a parquet file, some rows at a time."""
    table = pl.scan_parquet(path, glob=False)
    schema = table.collect_schema()
    rows, size = table.select(pl.len()).collect().item(), path.stat().st_size
    if rows > max(_ROWS, _MOST_ROWS_A_BYTE * size):
        raise DataError(
            f"{path}: has {rows:,} rows in {size:,} bytes, as if made to fill memory; if it is what it should be, divide it"
        )
    chosen = table.select(_column(schema, name) for name in names)
    if hasattr(chosen, "collect_batches"):
        yield from chosen.collect_batches(maintain_order=True, chunk_size=_ROWS)
        return
    for start in range(0, rows, _ROWS):  # older versions of Polars
        yield chosen.slice(start, _ROWS).collect()


def _arrow(path: Path, names: list[str] | None) -> pl.DataFrame:
    """The columns of a whole Arrow file, a stream (as `datasets` writes it) or one with an index; None: no rows of all."""
    with path.open("rb") as file:
        indexed = file.read(6) == b"ARROW1"
    if names is None:
        return pl.scan_ipc(path, glob=False).head(0).collect() if indexed else pl.read_ipc_stream(path, n_rows=0)
    table = pl.scan_ipc(path, glob=False) if indexed else pl.read_ipc_stream(path).lazy()
    schema = table.collect_schema()
    return table.select(_column(schema, name) for name in names).collect()
