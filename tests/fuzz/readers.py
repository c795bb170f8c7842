"""What both fuzzers try: a file of any bytes is read, or refused as data, whatever its format."""

import gzip
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from mmgrid.data import DataError, RawDomain, read_files
from mmgrid.data.readers import TableOptions
from mmgrid.data.readers.unpacking import zstd
from mmgrid.data.user_files import read_users

T = 1_660_000_000_000
LOG = pl.DataFrame(
    {"user_id": ["u", "v", "u", "ü"], "item_id": ["B0", "B1", "B1", "B0"], "timestamp": [T, T, T + 5, T]}
)
ITEMS = pl.DataFrame(
    {
        "item_id": ["B0", "B1"],
        "title": ['A "quoted", <b>title</b>', "NaN"],
        "description": ["['x', 'y']", "a &amp; b\nc"],
    }
)
SUFFIXES = (".csv", ".tsv", ".inter", ".jsonl", ".csv.gz", ".jsonl.gz", ".csv.zst", ".parquet", ".arrow")


def written(table: pl.DataFrame, suffix: str) -> bytes:
    """A table in the format of an extension."""
    if suffix == ".parquet":
        table.write_parquet(buffer := io.BytesIO())
        return buffer.getvalue()
    if suffix == ".arrow":
        table.write_ipc_stream(buffer := io.BytesIO())
        return buffer.getvalue()
    separator = "," if suffix.startswith(".csv") else "\t"
    text = table.write_ndjson() if suffix.startswith(".jsonl") else table.write_csv(separator=separator)
    packed = {".gz": gzip.compress, ".zst": zstd.compress}.get(
        suffix[-3:] if suffix.endswith(".gz") else suffix[-4:], bytes
    )
    return packed(text.encode())


@contextmanager
def folder() -> Iterator[Path]:
    """A folder with good files of both tables."""
    place = Path(tempfile.mkdtemp())
    (place / "log.csv").write_bytes(written(LOG, ".csv"))
    (place / "items.csv").write_bytes(written(ITEMS, ".csv"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def attempt(place: Path, data: bytes, suffix: str, *, is_log: bool, skip: bool) -> RawDomain | None:
    """The domain with one of its files replaced; None if it is refused. Any other error is a finding."""
    path = place / f"tried{suffix}"
    path.write_bytes(data)
    log, items = (path, place / "items.csv") if is_log else (place / "log.csv", path)
    found = None
    try:
        found = read_files(log, items, "shop", TableOptions(skip_bad_lines=skip))
        assert not found.interactions.null_count().pipe(lambda counts: any(counts.row(0)))
        assert not found.items["item_id"].is_duplicated().any()
    except DataError as error:
        if not any(str(file) in str(error) for file in (path, log, items)):
            raise AssertionError(f"names no file: {error}") from error
    if is_log:
        try:
            users = read_users(path)
            for block in users.histories(2):
                assert block.columns == ["user_id", "history"]
        except DataError:
            pass
    return found
