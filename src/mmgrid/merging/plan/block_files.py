"""The files that belong to the token blocks of the result, such as the codes of a domain's items."""

import filecmp
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.stamps import check_stamp, stamp_of
from mmgrid.merging.models.weight_files import INDEX_FILE, WEIGHTS_FILE
from mmgrid.merging.plan.block_layout import OutputBlock

_OTHER_FILES = (WEIGHTS_FILE, INDEX_FILE, MMGRID_FILE, "config.json", "tokenizer.json", "README.md")


@dataclass(frozen=True)
class BlockFile:
    """A file of a block: the source that it is copied from, and its state when the merge began."""

    source: str
    path: Path
    stamp: tuple[int, int, int]

    def check_unchanged(self) -> None:
        """Check that nobody has written to the file since the merge began.

        Raises:
            MergeError: somebody has.
        """
        check_stamp(self.path, self.stamp)


def block_files(blocks: Iterable[OutputBlock], folders: Mapping[str, Path]) -> dict[str, BlockFile]:
    """Name → file, for the files of all blocks of the result.

    Args:
        folders: name of the source → the folder that holds its files.

    Raises:
        MergeError: a file is missing, has the name of another file of a model, or differs from a file of the same name
            that another source brings.
    """
    found: dict[str, BlockFile] = {}
    for laid in blocks:
        for name, own_name in zip(laid.block.files, laid.owner_files, strict=True):
            path = folders[laid.owner] / own_name
            where = f"block {laid.block.name!r} of source {laid.owner!r}"
            if name in _OTHER_FILES:
                raise MergeError(f"{where}: {name} cannot be a file of a block; every model has one")
            if not path.is_file():
                raise MergeError(f"{where}: its file {path} is missing")
            other = found.setdefault(name, BlockFile(laid.owner, path, stamp_of(path)))
            if other.path != path and not filecmp.cmp(other.path, path, shallow=False):
                raise MergeError(f"{where}: {path} and {other.path} have the same name and differ; rename one of them")
    return found
