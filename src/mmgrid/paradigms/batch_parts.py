"""The blocks of a batch that is not complete yet: files in a folder beside the one that is to be written.

What an earlier run has left is used again if it belongs to the same batch; nothing of anybody else's is removed.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from mmgrid.files.damaged_tables import DAMAGED
from mmgrid.files.folder import sync_path, write_json
from mmgrid.machine.claim import claimed

_NOTE = "batch.json"
_OWN = re.compile(r"\d{6,}\.(parquet|partial)|whole|batch\.json|\..*\.partial")


class BatchError(ValueError):
    """The batch cannot be run; the message says why."""


@contextmanager
def working(parts: Path, out: Path, identity: Any) -> Iterator[None]:
    """The folder of the parts of `out`, claimed for this process, and emptied if they belong to another batch.

    Raises BatchError if another process has claimed it, or it is no folder of parts.
    """
    identity = json.loads(json.dumps(identity))
    _check_own(parts, out)
    parts.mkdir(parents=True, exist_ok=True)
    with claimed(parts) as ours:
        if not ours:
            raise BatchError(f"{out}: another process is writing it; wait for it, or name another file")
        try:
            same = json.loads((parts / _NOTE).read_text(encoding="utf-8")) == identity
        except (OSError, ValueError):
            same = False
        if not same:
            for file in parts.iterdir():
                file.unlink()
            write_json(parts / _NOTE, identity)
        try:
            yield
        except BaseException:
            if not any(parts.glob("*.parquet")):  # nothing to go on from
                shutil.rmtree(parts, ignore_errors=True)
            raise


def part_of(parts: Path, number: int) -> Path:
    """The file of a block."""
    return parts / f"{number:06}.parquet"


def write_part(file: Path, table: pl.DataFrame) -> None:
    """Write a block; it appears whole or not at all, also after a loss of power."""
    table.write_parquet(partial := file.with_suffix(".partial"))
    sync_path(partial)
    partial.replace(file)


def is_written(file: Path, rows: int) -> bool:
    """Whether a block of so many rows was written before; what cannot be read is written again."""
    if not file.is_file():
        return False
    try:
        return len(pl.read_parquet(file, glob=False)) == rows
    except (*DAMAGED, OSError):
        return False


def stamp(path: Path) -> list[Any]:
    """What tells a file from another one without reading it, as JSON: its path, size and time of modification."""
    facts = path.stat()
    return [str(path.resolve()), facts.st_size, facts.st_mtime_ns]


def _check_own(parts: Path, out: Path) -> None:
    if parts.exists() and not parts.is_dir():
        raise BatchError(
            f"{parts}: is a file, and {out.name} needs a folder there; move it, or name another file to write"
        )
    if parts.is_dir():
        foreign = [path.name for path in sorted(parts.iterdir()) if path.is_dir() or not _OWN.fullmatch(path.name)]
        if foreign:
            raise BatchError(
                f"{parts}: holds {foreign[0]}, which no batch has written; move it, or name another file to write"
            )
