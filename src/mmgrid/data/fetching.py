"""The files of Amazon Reviews 2023 from its publishers, or from their repository on the Hub.

Source: https://amazon-reviews-2023.github.io
"""

import difflib
import json
import logging
import shutil
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmgrid.data.errors import DamagedError, DataError
from mmgrid.data.readers.amazon2023 import (
    HUB_DATASET,
    ITEMS_FOLDER,
    RATINGS_FOLDER,
    REVIEWS_FOLDER,
    Role,
    present,
)
from mmgrid.data.readers.unpacking import KINDS, Unpacked
from mmgrid.files import DiskFull, clear_disk_errors
from mmgrid.files.download import PATIENCE, DownloadError, Patience, Remote, arrived_bytes, download, look, text
from mmgrid.machine.claim import claimed
from mmgrid.quantities import size

_LOG = logging.getLogger(__name__)

Source = Literal["publishers", "hub"]
BASES: dict[str, str] = {
    "publishers": "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023",
    "hub": "https://huggingface.co",
}
CATEGORIES = [
    "All_Beauty",
    "Amazon_Fashion",
    "Appliances",
    "Arts_Crafts_and_Sewing",
    "Automotive",
    "Baby_Products",
    "Beauty_and_Personal_Care",
    "Books",
    "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories",
    "Clothing_Shoes_and_Jewelry",
    "Digital_Music",
    "Electronics",
    "Gift_Cards",
    "Grocery_and_Gourmet_Food",
    "Handmade_Products",
    "Health_and_Household",
    "Health_and_Personal_Care",
    "Home_and_Kitchen",
    "Industrial_and_Scientific",
    "Kindle_Store",
    "Magazine_Subscriptions",
    "Movies_and_TV",
    "Musical_Instruments",
    "Office_Products",
    "Patio_Lawn_and_Garden",
    "Pet_Supplies",
    "Software",
    "Sports_and_Outdoors",
    "Subscription_Boxes",
    "Tools_and_Home_Improvement",
    "Toys_and_Games",
    "Unknown",
    "Video_Games",
]
_SPARE_BYTES = 1 << 28  # room that is left free


@dataclass(frozen=True)
class Wanted:
    """A file to fetch, and where to put it."""

    remote: Remote
    path: Path


def fetch(
    root: Path,
    domains: Sequence[str],
    *,
    source: Source = "publishers",
    base_url: str | None = None,
    reviews: bool = False,
    patience: Patience = PATIENCE,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> list[Path]:
    """Fetch the ratings and items of some categories into `root`.

    What is there already, in any place that the reader looks at, is left as it is, and not asked for.

    Args:
        source: the publishers' server, with gzipped JSON lines, or the Hub, with parquet shards and checksums.
        base_url: another server with the same paths.
        reviews: fetch all reviews, with their texts, in place of the ratings of the 5-core.
        progress: is called with the name of a file, how many of its bytes are there, and how many there will be.

    Returns the files, in order.

    Raises:
        DataError: a domain is no category, or a file that has arrived cannot be read now; it is kept.
        DownloadError: a server cannot be reached, has no such file, or sends another one than it announced, or
            a damaged one, twice.
        DiskFull: there is not enough room for what is missing; nothing was fetched.
    """
    for domain in domains:
        _check_category(domain)
    base = (base_url or BASES[source]).strip().rstrip("/")
    roles: tuple[Role, ...] = ("reviews" if reviews else "ratings", "items")
    of_role = _on_hub if source == "hub" else _of_publishers
    files: list[Path] = []
    missing: list[Wanted] = []
    for domain in domains:
        if reviews and (ratings := present(root, domain, "ratings")):
            _LOG.warning("%s: is read in place of the reviews; move it elsewhere, so that they are read", ratings[0])
        for role in roles:
            there = present(root, domain, role)
            wanted = [] if there else of_role(base, root, domain, role, patience)
            files += there or [file.path for file in wanted]
            missing += [file for file in wanted if not file.path.is_file()]
    if not missing:
        return files
    missing = [
        file if file.remote.size_bytes else replace(file, remote=look(file.remote, patience)) for file in missing
    ]
    _check_room(root, missing)
    if root.exists() and not root.is_dir():
        raise DataError(
            f"{root}: is a file, and files are to be fetched into a folder of this name; choose another root"
        )
    with clear_disk_errors(root, remedy="choose another root"):
        root.mkdir(parents=True, exist_ok=True)
    with claimed(root) as ours:
        if not ours:
            raise DataError(f"{root}: another process fetches files into it; wait for it, or name another root")
        for file in missing:
            if file.path.is_file():
                continue  # another process has fetched it since
            download(file.remote, file.path, patience, _named(progress, file), _damage_of(file.path))
    return files


def _of_publishers(base: str, root: Path, domain: str, role: Role, patience: Patience) -> list[Wanted]:
    folder, name = {
        "ratings": (RATINGS_FOLDER, f"{domain}.csv.gz"),
        "reviews": (REVIEWS_FOLDER, f"{domain}.jsonl.gz"),
        "items": (ITEMS_FOLDER, f"meta_{domain}.jsonl.gz"),
    }[role]
    return [Wanted(Remote(f"{base}/{folder}/{name}"), root / name)]


def _on_hub(base: str, root: Path, domain: str, role: Role, patience: Patience) -> list[Wanted]:
    """The files of a category in the repository, in the folders that they have there."""
    wanted: list[Wanted] = []
    folders = {"ratings": RATINGS_FOLDER, "reviews": f"raw_review_{domain}", "items": f"raw_meta_{domain}"}
    listing = f"{base}/api/datasets/{HUB_DATASET}/tree/main/{folders[role]}"
    found = [entry for entry in _entries(listing, patience) if _is_of(entry, domain)]
    if not found:
        raise DownloadError(f"{listing}: lists no file of {domain}; try the publishers (--from publishers)")
    for entry in found:
        name = f"{folders[role]}/{entry['path'].rpartition('/')[2]}"
        url = f"{base}/datasets/{HUB_DATASET}/resolve/main/{urllib.parse.quote(name)}"
        lfs = entry.get("lfs") or {}
        wanted.append(Wanted(Remote(url, entry.get("size"), lfs.get("oid")), root / name))
    return wanted


def _entries(listing: str, patience: Patience) -> list[dict[str, Any]]:
    try:
        entries = json.loads(text(listing, patience))
    except ValueError as error:
        raise DownloadError(f"{listing}: is no listing of files ({error}); check the address") from error
    if not isinstance(entries, list):
        raise DownloadError(f"{listing}: is no listing of files; check the address")
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("path"), str)]


def _is_of(entry: dict[str, Any], domain: str) -> bool:
    folder, _, name = entry["path"].rpartition("/")
    return name.endswith(".parquet") if folder.startswith("raw_") else name == f"{domain}.csv"


def _check_category(domain: str) -> None:
    if domain not in CATEGORIES:
        near = difflib.get_close_matches(domain, CATEGORIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the categories are {', '.join(CATEGORIES)}"
        raise DataError(f"{domain}: is no category of Amazon Reviews 2023; {hint}")


def _check_room(root: Path, missing: Sequence[Wanted]) -> None:
    needed = sum(max(0, (file.remote.size_bytes or 0) - arrived_bytes(file.path)) for file in missing)
    place = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed and needed + _SPARE_BYTES > free:
        raise DiskFull(
            f"{root}: {size(needed)} are to be fetched, and {size(free)} are free; nothing was fetched. Make room there, "
            "or choose another root"
        )


def _named(progress: Callable[[str, int, int | None], None] | None, file: Wanted) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda arrived: progress(file.path.name, arrived, file.remote.size_bytes)


def _damage_of(path: Path) -> Callable[[Path], str | None] | None:
    """What finds damage in the bytes of a compressed file, whatever they are called; None for other files."""
    kind = KINDS.get(path.suffix)
    return None if kind is None else lambda part: _damage(part, kind)


def _damage(part: Path, kind: str) -> str | None:
    """Unpacks a file once, to where its checksum is. Raises DataError if it cannot be read now."""
    try:
        with Unpacked(part, kind) as stream:
            if not stream.read(1 << 22, 0):
                return f"what was sent is a {kind} file of nothing"
            while stream.read(1 << 22, 0):
                pass
    except DamagedError as error:
        why = str(error).removeprefix(f"{part}: ").partition(";")[0]
        return f"what was sent is no whole {kind} file ({why})"
    return None
