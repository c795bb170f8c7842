"""SHA-256 digests of weight files, and the names that sources get from them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.files import DigestCache, short_name_of
from mmgrid.merging.arrays.cache import cache_folder
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.models.sources import Source


def digests_of(folders: Sequence[Source], workers: int) -> list[dict[str, dict[str, Any]]]:
    """For each folder: name of a weight file → its `sha256` and `bytes`."""
    return digests_of_files([folder.files for folder in folders], workers)


def digests_of_files(groups: Sequence[Sequence[Path]], workers: int) -> list[dict[str, dict[str, Any]]]:
    """For each group of files: name of the file → its `sha256` and `bytes`.

    Digests are cached in the user's cache folder by path, size and time, because sources are never written to.
    """
    cache = DigestCache(cache_folder() / "digests.json")
    digests: dict[Path, str] = {}
    files = sorted({file for group in groups for file in group})
    for_each(files, lambda file: digests.__setitem__(file, cache.sha256(file)), workers)
    return [{file.name: {"sha256": digests[file], "bytes": file.stat().st_size} for file in group} for group in groups]


def joint_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One digest for all weight files of a model; the digest of a single file is its own."""
    digests = [entry["sha256"] for _, entry in sorted(files.items())]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def short_name(name: str, path: Path) -> str:
    """A source's name for people: its folder's name if the source is named by its digest."""
    digest = len(name) == 64 and not set(name) - set("0123456789abcdef")
    return short_name_of(path) or str(path) if digest else name
