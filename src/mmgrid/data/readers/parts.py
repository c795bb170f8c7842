"""Folders of parts, as Spark, Hive and their kin write a table: `part-00000-….parquet`, perhaps below folders `day=2022-07-01`.

What begins with a dot or an underscore (`_SUCCESS`, `.part-00000.crc`) is no part. Tables whose log says which files count
(Delta, Iceberg, Hudi) are refused: their folder holds deleted rows, too.
"""

import re
from pathlib import Path

from mmgrid.data.errors import DataError

_PART = re.compile(r"part-.*\d{5}.*")
_PARTITION = re.compile(r"[^.=_][^=]*=.+")
_DONE, _AT_WORK = "_SUCCESS", "_temporary"
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}


def is_folder_of_parts(folder: Path) -> bool:
    """Whether such tools wrote a folder, whole or not."""
    if not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir()]
    known = {_DONE, _AT_WORK, *_LOGS}
    return _is_iceberg(folder) or any(
        name in known or _PART.fullmatch(name) or (_PARTITION.fullmatch(name) and (folder / name).is_dir())
        for name in names
    )


def parts(folder: Path) -> list[Path]:
    """The files of a folder of parts, in the order of their names.

    Raises DataError if the job that writes it has not finished, or a log says which of them count.
    """
    names = {path.name for path in folder.iterdir()}
    log = next((kind for name, kind in _LOGS.items() if name in names), "Iceberg" if _is_iceberg(folder) else None)
    if log:
        raise DataError(
            f"{folder}: is a table of {log}, whose log says which of its files count; export it as parquet or CSV"
        )
    if _AT_WORK in names and _DONE not in names:
        raise DataError(
            f"{folder}: holds {_AT_WORK} and no {_DONE}: the job that writes it has not finished, or was killed; run it "
            f"again, or remove {_AT_WORK} if all parts are there"
        )
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("_", ".")):
            continue
        if path.is_dir():
            found += parts(path) if _PARTITION.fullmatch(path.name) else []
        else:
            found.append(path)
    return found


def _is_iceberg(folder: Path) -> bool:
    return any(folder.glob("metadata/*.metadata.json"))
