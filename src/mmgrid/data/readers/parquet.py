"""Two parquet tables: `<root>/<domain>/interactions.parquet` and `items.parquet`.

Prepared domains have the same layout, so they can serve as raw data of a grid.
"""

from pathlib import Path

from mmgrid.data.errors import DataError
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers.files import listing, read_files


def sources(root: Path, domain: str) -> list[Path]:
    """The two files of a domain. Raises DataError if one is missing."""
    root = Path(root)
    if not (root / domain).is_dir():
        raise DataError(f"{root / domain}: no such folder for domain {domain!r}; {listing(root)}")
    paths = [root / domain / "interactions.parquet", root / domain / "items.parquet"]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file; {listing(path.parent)}")
    return paths


def read(root: Path, domain: str) -> RawDomain:
    """The domain's two tables. Raises DataError if one is missing, unreadable or lacks columns."""
    interactions, items = sources(root, domain)
    return read_files(interactions, items, domain)
