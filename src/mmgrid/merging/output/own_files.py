"""Digests of the files that a merge has written, by which damage to them shows without its sources.

Left out are the card, the record itself, and settings of the model: people edit these, and publishing frees them from
private paths.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.cards import CARD_FILE
from mmgrid.files import DIGEST_KINDS, digest_file, inside
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.output.journal import JOURNAL_FILE

OWN_KIND = "xxh128"  # of digests
_EDITED = (CARD_FILE, MMGRID_FILE, JOURNAL_FILE)
_SETTINGS = ("config.json", ".yml")


def own_files(folder: Path, known: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Path with "/" → digest and `bytes` of the files in a merge's folder and below it, in order.

    known: path → digest of the kind `OWN_KIND`, for files that need not be read.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    kept = [name for name in names if "/" in name or (name not in _EDITED and not name.endswith(_SETTINGS))]
    digests = {name: known.get(name) or digest_file(folder / name, OWN_KIND) for name in kept}
    return {name: {OWN_KIND: digest, "bytes": (folder / name).stat().st_size} for name, digest in digests.items()}


def damaged_files(folder: Path, recorded: Mapping[str, Any]) -> dict[str, str]:
    """Path → how a file differs from what `own_files` told of it; paths that lead out of the folder are refused."""
    found = {}
    for name, entry in recorded.items():
        try:
            path = inside(folder, name, allow_links=True)
        except ValueError:
            found[name] = "is no path of a file in the folder"
            continue
        if not path.is_file():
            found[name] = "is missing"
        elif not isinstance(entry, Mapping) or path.stat().st_size != entry.get("bytes"):
            found[name] = "has another size than when it was written"
        elif (kind := next((kind for kind in DIGEST_KINDS if kind in entry), None)) is None:
            found[name] = "has no digest of a kind that is known, so that damage to it would not show"
        elif digest_file(path, kind) != entry[kind]:
            found[name] = "has changed since it was written"
    return found
