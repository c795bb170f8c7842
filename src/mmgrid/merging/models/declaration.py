"""Reads `mmgrid.json`, in which a model's folder declares what the model is."""

import json
from pathlib import Path
from typing import Any

from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.file_kinds import impostor

MMGRID_FILE = "mmgrid.json"


def read_declaration(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's `mmgrid.json`; None if there is no such file, or it is no JSON object.

    Raises:
        MergeError: the file is not JSON.
    """
    file = folder / MMGRID_FILE
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise MergeError(f"{file}: {impostor(file) or f'is not JSON: {error}'}") from error
    return value if isinstance(value, dict) else None
