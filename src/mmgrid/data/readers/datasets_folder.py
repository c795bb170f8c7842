"""Folders of the Hugging Face library `datasets`: those that `save_to_disk` writes, and those of the hub.

`save_to_disk` writes Arrow streams and their names in `state.json`; for a dictionary of splits, a folder for each split
and `dataset_dict.json`. A folder as on the hub holds parquet files, here or in `data/`, named `<split>-00000-of-00001`.
The library is not needed.
"""

import json
import re
from pathlib import Path
from typing import Any

from mmgrid.data.errors import DataError
from mmgrid.files import inside

_SHARD = re.compile(r"(.+?)(?:-\d{5}-of-\d{5}(?:-[0-9a-f]+)?)?\.(?:parquet|arrow|csv|tsv)")


def is_dataset(folder: Path) -> bool:
    """Whether a folder is one of these."""
    return folder.is_dir() and bool(splits(folder))


def splits(folder: Path) -> dict[str, list[Path]]:
    """Split → its files, in order; empty if the folder is no dataset. A dataset without splits has one, called "".

    Raises DataError if a file that the folder names is missing, or its JSON is broken.
    """
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits", [])
        return {str(name): _saved(_own(folder, str(name), "dataset_dict.json")) for name in names}
    if (folder / "state.json").is_file():
        return {"": _saved(folder)}
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        for path in sorted(place.glob("*")):
            match = _SHARD.fullmatch(path.name)
            if match and path.is_file():
                found.setdefault(match[1], []).append(path)
    return found


def _saved(folder: Path) -> list[Path]:
    """The files that `save_to_disk` wrote into a folder."""
    if not (folder / "state.json").is_file():
        raise DataError(f"{folder}: has no state.json; save the dataset again")
    if _json(folder / "state.json").get("_indices_data_files"):
        raise DataError(f"{folder}: its rows are chosen by an index file; save it again after `.flatten_indices()`")
    named = [str(file["filename"]) for file in _json(folder / "state.json").get("_data_files", [])]
    files = [_own(folder, name, "state.json") for name in named]
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
    except ValueError as error:
        raise DataError(f"{path}: is broken ({error}); save the dataset again") from error
    return value if isinstance(value, dict) else {}
