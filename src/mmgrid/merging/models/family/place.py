"""Where a checkpoint that is part of a family is. Known without reading what the family consists of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mmgrid.files.foreign import foreign
from mmgrid.merging.errors import MergeError

FAMILY_FILE = "family.json"
POINTER_FILE = "member.json"  # in a temporary folder of a domain's files: where its family is
PARTS_FOLDER = "parts"
EXPANSION_FILE = "expansion.json"  # beside a checkpoint that was put together: from what, and how exactly


def is_family(path: Path) -> bool:
    """Whether a folder is a family, or holds a checkpoint that is stored as a difference."""
    return (path / FAMILY_FILE).is_file()


@dataclass(frozen=True)
class MemberPlace:
    """Where a domain's checkpoint is.

    Attributes:
        family: the folder of its family.
        domain: its name; None for the only one.
        shared, base: the folders of these models, if they are not where the family says.
    """

    family: Path
    domain: str | None = None
    shared: Path | None = None
    base: Path | None = None

    def is_checkpoint(self, folder: Path) -> bool:
        """Whether `folder`, of which this is the place, has the files of a checkpoint: only its weights are elsewhere."""
        if (folder / POINTER_FILE).is_file():
            return True
        from mmgrid.merging.models.family.file import FamilyFile

        domains = FamilyFile.read(self.family).domains.values()
        return is_family(folder) and [each.folder for each in domains] == ["."]

    def write(self, folder: Path) -> None:
        """Make a folder with the domain's other files stand for its checkpoint."""
        told = {name: str(value) for name, value in vars(self).items() if value is not None}
        (folder / POINTER_FILE).write_text(json.dumps(told), encoding="utf-8")


def family_of(path: Path) -> MemberPlace | None:
    """The place of a checkpoint that is part of a family; None for any other folder.

    path: the family's folder, one of its folders `parts/NAME`, or a folder of a domain's files in which `MemberPlace.write`
    has left a note.
    """
    if is_family(path):
        return MemberPlace(path)
    pointer = path / POINTER_FILE
    if pointer.is_file():
        with foreign(pointer, MergeError, "has not the form that mmgrid writes", "open the family itself"):
            told = json.loads(pointer.read_text(encoding="utf-8"))
            places = {name: Path(told[name]) for name in ("shared", "base") if name in told}
            return MemberPlace(Path(told["family"]), told.get("domain"), **places)
    path = path.absolute()
    above = path.parent.parent
    return MemberPlace(above, path.name) if path.parent.name == PARTS_FOLDER and is_family(above) else None
