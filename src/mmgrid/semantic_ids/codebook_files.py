"""The two files of a codebook: its arrays in `codebook.safetensors`, its kind and recipe in `codebook.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mmgrid.files import write_bytes, write_json

ARRAYS_FILE = "codebook.safetensors"
HEAD_FILE = "codebook.json"  # written last: it marks the folder as complete
FORMAT = 1


def write(folder: Path, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write both files into `folder`, which is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(folder / ARRAYS_FILE, save(contiguous))
    write_json(folder / HEAD_FILE, {"format": FORMAT, **head})


def read_head(folder: Path) -> dict[str, Any]:
    """The content of `codebook.json`.

    Raises FileNotFoundError if it is missing, ValueError if it does not describe a codebook.
    """
    path = folder / HEAD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; does {folder} hold a codebook?")
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # includes UnicodeDecodeError
        raise ValueError(f"{path}: not valid JSON: {error}; fit the codebook again") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError(f"{path}: not a codebook of format {FORMAT}; fit the codebook again with this version")
    return head


def read_arrays(folder: Path, names: frozenset[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays by name.

    Raises FileNotFoundError if the file is missing, ValueError if it is damaged or lacks one of `names`.
    """
    path = folder / ARRAYS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the codebook is incomplete, fit it again")
    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged: {error}; fit the codebook again") from None
    missing = sorted((names or frozenset()) - arrays.keys())
    if missing:
        raise ValueError(f"{path}: no array {missing[0]!r}; expected {sorted(names or ())}")
    return arrays
