"""Digests of the files that a merge has written, by which damage to them shows without its sources.

Left out are the card, the record itself, and settings: people edit these, and publishing frees them from private paths.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.cards import CARD_FILE
from mmgrid.files import blake3_file
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.output.journal import JOURNAL_FILE

_EDITED = (CARD_FILE, MMGRID_FILE, JOURNAL_FILE)
_SETTINGS = ("config.json", ".yml")


def own_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Name → `blake3` and `bytes` of the files in a merge's folder, in order."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    kept = [name for name in names if name not in _EDITED and not name.endswith(_SETTINGS)]
    return {name: {"blake3": blake3_file(folder / name), "bytes": (folder / name).stat().st_size} for name in kept}


def damaged_files(folder: Path, recorded: Mapping[str, Any]) -> dict[str, str]:
    """Name → how a file differs from what `own_files` told of it; names that lead out of the folder are refused."""
    found = {}
    for name, entry in recorded.items():
        path = folder / name
        if Path(name).name != name:
            found[name] = "is no name of a file"
        elif not path.is_file():
            found[name] = "is missing"
        elif not isinstance(entry, Mapping) or path.stat().st_size != entry.get("bytes"):
            found[name] = "has another size than when it was written"
        elif blake3_file(path) != entry.get("blake3"):
            found[name] = "has changed since it was written"
    return found
