"""Folders of the Hugging Face library `datasets`: those that `save_to_disk` writes, and those of the hub.

`save_to_disk` writes Arrow streams and their names in `state.json`; for a dictionary of splits, a folder for each split
and `dataset_dict.json`. A folder as on the hub holds parquet files, here or in `data/`, named `<split>-00000-of-00001`.
The library is not needed. Folders of parts (see `parts`) are datasets without splits.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmgrid.data.errors import DataError
from mmgrid.data.readers.parts import is_folder_of_parts, parts
from mmgrid.files import inside

_SHARD = re.compile(r"(.+?)(?:-\d{5}-of-\d{5}(?:-[0-9a-f]+)?)?\.(?:parquet|arrow|csv|tsv)")
_NUMBERED = re.compile(r"(.+?)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\..+")
_SHOWN = 3


class IncompleteError(DataError):
    """Of the numbered files of a table some are missing."""


def splits(folder: Path) -> dict[str, list[Path]]:
    """Split → its files, in order; empty if the folder is no dataset. A dataset without splits has one, called "".

    Raises DataError if a file that the folder names is missing, or its JSON is broken, or as `parts`, and IncompleteError as `check_shards`.
    """
    if (folder / "dataset_dict.json").is_file():
        names = _texts(folder / "dataset_dict.json", "splits")
        return {name: _saved(_own(folder, name, "dataset_dict.json")) for name in names}
    if (folder / "state.json").is_file():
        return {"": _saved(folder)}
    if is_folder_of_parts(folder):
        return {"": parts(folder)}
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        named = [(path, _SHARD.fullmatch(path.name)) for path in sorted(place.glob("*")) if path.is_file()]
        files = [(path, match[1]) for path, match in named if match]
        check_shards([path for path, _ in files])
        for path, split in files:
            found.setdefault(split, []).append(path)
    return found


def check_shards(files: Sequence[Path]) -> None:
    """Raise IncompleteError if some files are numbered (`-00000-of-00010`), and not all of their numbers are there."""
    sets: dict[tuple[Path, str, int], set[int]] = {}
    for path in files:
        if match := _NUMBERED.fullmatch(path.name):
            sets.setdefault((path.parent, match[1], int(match[3])), set()).add(int(match[2]))
    for (folder, stem, total), numbers in sets.items():
        first = int(total in numbers)  # some count from 1
        missing = [number for number in range(first, first + total) if number not in numbers]
        if missing:
            named = ", ".join(f"{stem}-{number:05}-of-{total:05}" for number in missing[:_SHOWN])
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            raise IncompleteError(
                f"{folder}: holds {len(numbers)} of the {total} files of {stem}; {named}{more} missing. Fetch or copy "
                "the rest, or remove them all"
            )


def _saved(folder: Path) -> list[Path]:
    """The files that `save_to_disk` wrote into a folder."""
    if not (folder / "state.json").is_file():
        raise DataError(f"{folder}: has no state.json; save the dataset again")
    if _json(folder / "state.json").get("_indices_data_files"):
        raise DataError(f"{folder}: its rows are chosen by an index file; save it again after `.flatten_indices()`")
    files = [_own(folder, name, "state.json") for name in _texts(folder / "state.json", "_data_files", "filename")]
    for path in files:
        if not path.is_file():
            raise DataError(f"{path}: no such file, though state.json names it; copy or save the dataset again")
    return files


def _own(folder: Path, name: str, named_by: str) -> Path:
    try:
        return inside(folder, name, allow_links=True)
    except ValueError as error:
        raise DataError(f"{folder / named_by}: names what is not its own ({error}); save the dataset again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: is broken ({error}); save the dataset again") from error
    return value if isinstance(value, dict) else {}


def _texts(path: Path, key: str, field: str | None = None) -> list[str]:
    """The texts in a list under a key, or in a field of each object in it. Raises DataError if they are something else."""
    found: Any = _json(path).get(key, [])
    if field is not None and isinstance(found, list):
        found = [entry.get(field) if isinstance(entry, dict) else None for entry in found]
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise DataError(f"{path}: is broken ({key} holds no names); save the dataset again")
    return found
