"""Amazon Reviews 2023: `<Category>.csv.gz` (5-core ratings) and `meta_<Category>.jsonl.gz` (items).

Files may be uncompressed or compressed with Zstandard, items also parquet shards, and the folders may be those of the
publishers or of their repository on the Hub. If there are no ratings, the category's reviews are read. The name of a
domain is that of its category. Source: https://amazon-reviews-2023.github.io
"""

from pathlib import Path
from typing import Literal

from mmgrid.data.errors import DataError
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers.datasets_folder import IncompleteError, splits
from mmgrid.data.readers.files import read_domain
from mmgrid.data.readers.options import PreparationOptions, TableOptions, kept_from
from mmgrid.data.readers.tables import listing

takes = frozenset({"skip_bad_lines"})  # the files of the publishers leave nothing else to say

_OPTIONS = TableOptions(time_unit="ms")
HUB_DATASET = "McAuley-Lab/Amazon-Reviews-2023"  # the name of these data on the Hub
RATINGS_FOLDER = "benchmark/5core/rating_only"
REVIEWS_FOLDER = "raw/review_categories"
ITEMS_FOLDER = "raw/meta_categories"
_PACKED = (".gz", "", ".zst")
_RATINGS = tuple(f"{folder}{{}}.csv{packed}" for folder in ("", f"{RATINGS_FOLDER}/") for packed in _PACKED)
_REVIEWS = (
    *(f"{folder}{{}}.jsonl{packed}" for folder in ("", f"{REVIEWS_FOLDER}/") for packed in _PACKED),
    "raw_review_{}",
)
_ITEMS = (
    *(f"{folder}meta_{{}}.jsonl{packed}" for folder in ("", f"{ITEMS_FOLDER}/") for packed in _PACKED),
    "meta_{}.parquet",
    "raw_meta_{}",
    "meta_{}",
)
Role = Literal["ratings", "reviews", "items"]
_PLACES: dict[Role, tuple[str, ...]] = {"ratings": _RATINGS, "reviews": _REVIEWS, "items": _ITEMS}


def sources(root: Path, domain: str, options: TableOptions = _OPTIONS) -> list[Path]:
    """The files of a category: those of ratings (or else reviews), then those of items.

    Raises DataError if either is missing, or some of its shards are.
    """
    ratings, items, _ = _files(Path(root), domain)
    return [*ratings, *items]


def read(root: Path, domain: str, options: TableOptions = _OPTIONS) -> RawDomain:
    """The category's interactions, and its items with at least one.

    Raises DataError if a file is missing, truncated, broken, or lacks columns.
    """
    ratings, items, are_reviews = _files(Path(root), domain)
    own = PreparationOptions(time_unit="ms", skip_bad_lines=options.skip_bad_lines, min_interactions=kept_from(options))
    return read_domain(ratings, items, domain, own, are_reviews=are_reviews)


def has_texts(root: Path, domain: str, options: TableOptions = _OPTIONS) -> bool:
    """Always, since the items have a file of their own."""
    return True


def present(root: Path, domain: str, role: Role) -> list[Path]:
    """The files of a category that are there and would be read; none if there are none, or if some shards are missing."""
    try:
        return _first(Path(root), domain, _PLACES[role])
    except IncompleteError:
        return []


def _files(root: Path, domain: str) -> tuple[list[Path], list[Path], bool]:
    """The files of interactions, those of items, and whether the interactions are reviews, which nobody filtered."""
    ratings = _first(root, domain, _RATINGS)
    interactions = ratings or _required(root, domain, _REVIEWS, _RATINGS)
    return interactions, _required(root, domain, _ITEMS), not ratings


def _required(root: Path, domain: str, places: tuple[str, ...], others: tuple[str, ...] = ()) -> list[Path]:
    files = _first(root, domain, places)
    if not files:
        first, *more = [place.format(domain) for place in (*others, *places)]
        raise DataError(f"{root / first}: no such file (nor {', '.join(more)}); {listing(root)}")
    return files


def _first(root: Path, domain: str, places: tuple[str, ...]) -> list[Path]:
    """The files of the first place that exists: one file, or the shards in a folder. Raises IncompleteError as `splits`."""
    for place in places:
        path = root / place.format(domain)
        files = [path] if path.is_file() else [file for group in splits(path).values() for file in group]
        if files:
            return files
    return []
