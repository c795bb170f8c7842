"""The files of a domain beside its weights: which belong to a checkpoint, and which are stored once for several domains."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmgrid.files import blake3_file
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.merging.models.companions import companions_in
from mmgrid.merging.models.content_names import content_of
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.family.file import PART_FILES, FileFacts
from mmgrid.merging.models.family.member import FamilyMember
from mmgrid.merging.models.family.place import EXPANSION_FILE, FAMILY_FILE
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.weight_files import INDEX_FILE

_RECORD = "record.json"  # of a store's cell: names the digest of weights that are not stored
_WEIGHTS = (".bin", ".pt", ".pth", ".gguf")  # of other formats
# Files of weights in safetensors begin so; others hold something else, such as codes.
_MODELS = ("model", "consolidated")


def files_of(source: Source, path: Path) -> dict[str, Path]:
    """The files of a checkpoint's folder that are not its weights, by name; hidden files and folders are left out.

    Args:
        source: the open checkpoint.
        path: as the recipe names it. The folder of an adapter adds only its own declaration to its model's config and
            tokenizer.

    Raises:
        MergeError: a file has the name of a part's.
    """
    if isinstance(source, FamilyMember):
        return {name: source.file(name) for name in source.entry.files}
    if (path / ADAPTER_CONFIG).is_file() and source.companions != path:
        found = {file.name: file for file in companions_in(source.companions)}
        return found | ({MMGRID_FILE: path / MMGRID_FILE} if (path / MMGRID_FILE).is_file() else {})
    folder = source.companions
    if not folder.is_dir():
        return {}
    weights = set(source.files)
    found = {file.name: file for file in sorted(folder.iterdir()) if file not in weights and _belongs(file)}
    taken = sorted(found.keys() & PART_FILES)
    if taken:
        raise MergeError(f"{found[taken[0]]}: a part of a family has a file of this name, too; rename it")
    return found


def _belongs(file: Path) -> bool:
    if not file.is_file() or file.name.startswith("."):
        return False
    if file.suffix == ".safetensors" and file.name.startswith(_MODELS):
        return False
    return file.suffix not in _WEIGHTS and file.name not in (_RECORD, FAMILY_FILE, INDEX_FILE, EXPANSION_FILE)


def sample_of(file: Path) -> str:
    """The digest of a sample of a file, by which another file is told apart in milliseconds."""
    return content_of([file])[file.name]["sha256"]


def facts_of(file: Path) -> FileFacts:
    """Size and digests of a file."""
    return FileFacts(bytes=file.stat().st_size, blake3=blake3_file(file), content=sample_of(file))


class Lockers:
    """Remembers what lies where in a family, so that equal files are stored once.

    Args:
        family: the family's folder.
    """

    def __init__(self, family: Path) -> None:
        self._family = family
        self._known: dict[tuple[str, str], str] = {}

    def note(self, folder: Path, files: Iterable[str]) -> None:
        """Note files that already lie in a folder of the family."""
        for name in files:
            place = folder.relative_to(self._family).as_posix()
            self._known.setdefault((name, blake3_file(folder / name)), place)

    def store(self, files: Mapping[str, Path], folder: Path) -> tuple[dict[str, FileFacts], dict[str, str]]:
        """Copy a domain's files to its folder, except those of which an equal one lies in the family.

        Returns:
            Name → facts, of all files; and name → the folder of the equal one.
        """
        facts: dict[str, FileFacts] = {}
        places: dict[str, str] = {}
        for name, file in files.items():
            digest = blake3_file(file)
            facts[name] = FileFacts(bytes=file.stat().st_size, blake3=digest)
            place = self._known.get((name, digest))
            if place is None:
                if not (folder / name).exists():
                    shutil.copyfile(file, folder / name)
                self._known[name, digest] = os.path.relpath(folder, self._family).replace(os.sep, "/")
            else:
                places[name] = place
        return facts, places
