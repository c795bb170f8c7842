"""Amazon Reviews 2023: `<Category>.csv.gz` (5-core ratings) and `meta_<Category>.jsonl.gz` (items).

Uncompressed files are accepted. If there are no ratings, the category's reviews, `<Category>.jsonl.gz`, are read.
The name of a domain is that of its category. Source: https://amazon-reviews-2023.github.io
"""

from pathlib import Path

from mmgrid.data.errors import DataError
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers.files import read_files
from mmgrid.data.readers.options import TableOptions
from mmgrid.data.readers.tables import listing

takes = frozenset({"skip_bad_lines"})  # the files of the publishers leave nothing else to say

_OPTIONS = TableOptions(time_unit="ms")
HUB_DATASET = "McAuley-Lab/Amazon-Reviews-2023"  # the name of these data on the Hub
_RATINGS = (".csv.gz", ".csv", ".jsonl.gz", ".jsonl")
_ITEMS = (".jsonl.gz", ".jsonl")


def sources(root: Path, domain: str, options: TableOptions = _OPTIONS) -> list[Path]:
    """The two files of a category: ratings (or else reviews) and items.

    Raises DataError if one is missing.
    """
    root = Path(root)
    return [
        _first(root, [domain + suffix for suffix in _RATINGS]),
        _first(root, [f"meta_{domain}{suffix}" for suffix in _ITEMS]),
    ]


def read(root: Path, domain: str, options: TableOptions = _OPTIONS) -> RawDomain:
    """The category's interactions, and its items with at least one.

    Raises DataError if a file is missing, truncated, broken, or lacks columns.
    """
    interactions, items = sources(root, domain)
    return read_files(
        interactions, items, domain, _OPTIONS.model_copy(update={"skip_bad_lines": options.skip_bad_lines})
    )


def has_texts(root: Path, domain: str, options: TableOptions = _OPTIONS) -> bool:
    """Always, since the items have a file of their own."""
    return True


def _first(root: Path, names: list[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root / names[0]}: no such file (nor {', '.join(names[1:])}); {listing(root)}")
