"""Amazon Reviews 2023: `<Category>.csv.gz` (5-core ratings) and `meta_<Category>.jsonl.gz` (items).

Uncompressed files are taken as well, and where there are no ratings the category's reviews, `<Category>.jsonl.gz`.
A domain's name is its category's.  Source: https://amazon-reviews-2023.github.io
"""

from __future__ import annotations

from pathlib import Path

from mmgrid.data.errors import DataError
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers.files import listing, read_files

_RATINGS = (".csv.gz", ".csv", ".jsonl.gz", ".jsonl")
_ITEMS = (".jsonl.gz", ".jsonl")


def sources(root: Path, domain: str) -> list[Path]:
    """The two files that a category is read from: ratings (or else reviews), items.

    DataError if one is missing.
    """
    root = Path(root)
    return [
        _first(root, [domain + suffix for suffix in _RATINGS]),
        _first(root, [f"meta_{domain}{suffix}" for suffix in _ITEMS]),
    ]


def read(root: Path, domain: str) -> RawDomain:
    """The category's interactions, and those of its items that have one.

    DataError if a file is missing, cut off, broken, or lacks columns.
    """
    interactions, items = sources(root, domain)
    return read_files(interactions, items, domain)


def _first(root: Path, names: list[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root / names[0]}: no such file (nor {', '.join(names[1:])}); {listing(root)}")
