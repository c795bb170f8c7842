"""Text tables: values between commas, tabs or semicolons, some of them in quotes (see `headers` for what separates them).

Values are read as text, so that an error can name the line of a wrong one. In RecBole's atomic files the header holds
`name:type`; the names are those before the colon.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from mmgrid.data.errors import DataError, named
from mmgrid.data.raw import require_columns
from mmgrid.data.readers.headers import SEPARATORS, Header, after_header, header
from mmgrid.data.readers.lines import Block, blocks
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.quoting import is_misquoted, swallowed_rows
from mmgrid.data.readers.repairs import Repairs
from mmgrid.files.damaged_tables import DAMAGED

_UNPACKED_BY_POLARS = (b"\x1f\x8b", b"x\x01", b"x\x9c", b"x\xda", b"\x28\xb5\x2f\xfd")  # gzip, zlib, zstd
_LONE_RETURN = re.compile(r"\r(?!\n|\Z)")
_IN_PLACE = "\ufdd0"  # no character: the csv module ends a row at a lone carriage return, Polars does not


def column_names(path: Path, wanted: tuple[str, ...] = (), encoding: str | None = None) -> list[str]:
    """The names in the first line; empty if the file is empty."""
    return list(header(path, wanted, encoding).names)


def read(
    path: Path,
    names: list[str],
    encoding: str | None = None,
    repairs: Repairs | None = None,
    numbers: Sequence[str] = (),
) -> Iterator[Piece]:
    """The wanted columns as text, one piece for each block of the file; rows without any value are left out.

    Args:
        numbers: columns that are Int64 in pieces where each row holds a whole number.

    Raises DataError if a column is missing, or a row has too few or too many values and is not to be left out.
    """
    rows_before = 0
    repairs = repairs or Repairs()
    for number, (block, found, table, lines) in enumerate(_tables(path, names, encoding, repairs, numbers)):
        if lines is None:
            where = partial(_lines_in, path, repairs, block, found)
            again = partial(_lines_of, path, names, encoding, repairs, number)
            exponents = b"+" in block.data and (b"E+" in block.data or b"e+" in block.data)  # one sign is found sooner
            yield Piece(
                path,
                table,
                rows_before,
                where,
                lines_again=again,
                zero_bytes=b"\0" in block.data,
                exponents=exponents,
            )
        else:
            yield Piece(path, table, rows_before, partial(_chosen, lines))
        rows_before += len(table)


_Table = tuple[Block, Header, pl.DataFrame, list[int] | None]
"""A block without the header, the header, the block's table, and the lines of its rows where they are known."""


def _tables(
    path: Path, names: list[str], encoding: str | None, repairs: Repairs, numbers: Sequence[str] = ()
) -> Iterator[_Table]:
    found = header(path, names, encoding)
    present = found.names
    require_columns(present, names, path)
    for name in names:
        if present.count(name) > 1:
            raise DataError(f"{path}: has {present.count(name)} columns called {name}; rename all but one")
    schema = {str(place): pl.String for place in range(len(present))}
    whole = {str(present.index(name)): pl.Int64 for name in numbers}
    chosen = [pl.col(str(present.index(name))).alias(name) for name in names]
    begun = False
    skip = repairs.skip if repairs.skip_bad_lines else None
    quoted = found.mark if found.quotes else None
    for block in blocks(path, separator=quoted, encoding=found.encoding, skip=skip):
        block = _without_blank_start(Block(block.first_line, found.plain(block.data)))
        if not begun and block.data:
            block, begun = _without_blank_start(after_header(block, found)), True
        if not block.data:
            continue
        lines, table = None, _parsed(block, found, schema | whole, chosen) if whole else None
        if table is None or table.select(numbers).null_count().row(0) != (0,) * len(numbers):
            table = _parsed(block, found, schema, chosen)
        if table is None:
            table, lines = _by_rows(path, block, found, names, repairs)
        yield block, found, table, lines


def _parsed(block: Block, found: Header, schema: dict[str, Any], chosen: list[pl.Expr]) -> pl.DataFrame | None:
    """The chosen columns of the rows that hold any value; None if Polars refuses the block, or would drop its quotes or
    unpack it."""
    if (found.quotes and is_misquoted(block.data, found.mark)) or block.data.startswith(_UNPACKED_BY_POLARS):
        return None
    sign = '"' if found.quotes else None
    try:
        table = pl.read_csv(
            io.BytesIO(block.data), has_header=False, schema=schema, separator=found.mark, quote_char=sign
        )
    except DAMAGED:
        return None
    return table.filter(~pl.all_horizontal(pl.all().is_null())).select(chosen)


def _chosen(lines: list[int], rows: Sequence[int]) -> list[int]:
    return [lines[row] for row in rows]


def _without_blank_start(block: Block) -> Block:
    """The block from its first line that is not blank: Polars takes the number of columns from it."""
    data = block.data.lstrip(b"\r\n")
    return Block(block.first_line + block.data[: len(block.data) - len(data)].count(b"\n"), data)


def _lines_of(
    path: Path, names: list[str], encoding: str | None, repairs: Repairs, number: int, rows: Sequence[int]
) -> list[int]:
    """As `_lines_in`, of a block that is read again: blocks are not kept for an error."""
    block, found, _, _ = next(islice(_tables(path, names, encoding, repairs.again()), number, None))
    return _lines_in(path, repairs, block, found, rows)


def _lines_in(path: Path, repairs: Repairs, block: Block, found: Header, rows: Sequence[int]) -> list[int]:
    """The lines in which rows of a block begin.

    Raises DataError if the first of the rows has too few values, which is then the reason why one of them is missing.
    """
    lines, wanted = [], set(rows)
    filled = ((line, fields) for line, fields in _rows(path, block, found, repairs.again()) if any(fields))
    for row, (line, fields) in enumerate(filled):
        if row in wanted:
            if not lines and not repairs.skip_bad_lines:
                _check_length(path, line, fields, found)
            lines.append(line)
            if len(lines) == len(wanted):
                break
    return lines


def _rows(
    path: Path, block: Block, found: Header, repairs: Repairs, errors: str = "replace"
) -> Iterator[tuple[int, list[str]]]:
    """First line and values of each row.

    Raises DataError at a row that cannot be read. If it is to be left out, the line after its first one begins the next.
    """
    csv.field_size_limit(1 << 29)
    text = block.data.decode(errors=errors).removesuffix("\n")
    has_lone = "\r" in text and _LONE_RETURN.search(text) is not None
    if has_lone:
        text = _LONE_RETURN.sub(_IN_PLACE, text)
    texts = [f"{line}\n" for line in text.split("\n")]
    begins = 0
    while begins < len(texts):
        start = begins
        quoting = csv.QUOTE_MINIMAL if found.quotes else csv.QUOTE_NONE
        reader = csv.reader(islice(texts, start, None), delimiter=found.mark, quoting=quoting, strict=True)
        try:
            for fields in reader:
                if any(swallowed_rows(value, found.mark) for value in fields):
                    raise csv.Error("a quoted value holds tabs and line breaks")
                if has_lone:
                    fields = [value.replace(_IN_PLACE, "\r") for value in fields]
                yield block.first_line + begins, fields
                begins = start + reader.line_num
            return
        except csv.Error as cause:
            line = block.first_line + begins
            error = DataError(
                f"{path}:{line}: the row that begins in this line cannot be read ({cause}); close its quotes, and double "
                "a quote that belongs to the text"
            )
            _leave_out(path, line, error, repairs)
            begins += 1


def _by_rows(
    path: Path, block: Block, found: Header, names: list[str], repairs: Repairs
) -> tuple[pl.DataFrame, list[int]]:
    """The block's table and the line of each row, row by row: for what Polars refuses, such as a quote within a value
    (a 5" pipe).

    Raises DataError naming the first wrong row, if it is not to be left out.
    """
    columns: dict[str, list[str]] = {name: [] for name in names}
    places = [found.names.index(name) for name in names]
    lines: list[int] = []
    for number, fields in _rows(path, block, found, repairs, "surrogateescape"):
        if not any(fields):
            continue
        try:
            _check_text(path, number, found.separator.join(fields))
            _check_length(path, number, fields, found)
        except DataError as error:
            _leave_out(path, number, error, repairs)
            continue
        lines.append(number)
        for values, place in zip(columns.values(), places, strict=True):
            values.append(fields[place])
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)), lines


def _leave_out(path: Path, number: int, error: DataError, repairs: Repairs) -> None:
    """Count a line that is left out. Raises the error if none is to be."""
    if not repairs.skip_bad_lines:
        raise error
    repairs.skip(f"{path}:{number}", str(error).removeprefix(f"{path}:{number}: "))


def _check_text(path: Path, line: int, text: str) -> None:
    """Raise DataError if a text was not UTF-8: its other bytes have become halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text[:80].encode(errors="surrogateescape").decode(errors="replace")
        raise DataError(
            f"{path}:{line}: is no text in utf-8, in {shown!r}; fix the line, or name the encoding of the file "
            '(encoding = "cp1252")'
        ) from None


def _check_length(path: Path, line: int, fields: list[str], found: Header) -> None:
    if len(fields) != len(found.names):
        remedy = f", or put quotes around values that hold {SEPARATORS[found.separator]}" if found.quotes else ""
        raise DataError(
            f"{path}:{line}: {len(fields)} values for {len(found.names)} columns ({named(found.names)}) in "
            f"{found.separator.join(fields)[:80]!r}; fix or remove the row{remedy}"
        )
