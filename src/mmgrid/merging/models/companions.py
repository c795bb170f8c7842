"""The files beside a model's weights that a merge copies: config, tokenizer, generation settings."""

from pathlib import Path

from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.family.place import EXPANSION_FILE, FAMILY_FILE, POINTER_FILE
from mmgrid.merging.models.file_kinds import check_companion
from mmgrid.merging.models.token_blocks import BlockTable

_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_OF_ONE_MODEL = (MMGRID_FILE, "record.json", "trainer_state.json", "training.json", "adapter_config.json")
_OF_A_FAMILY = (FAMILY_FILE, POINTER_FILE, EXPANSION_FILE)  # say where the weights of that model are or come from


def companions_in(folder: Path) -> list[Path]:
    """Config, tokenizer and generation files of a model's folder; not the files of its token blocks."""
    if not folder.is_dir():
        return []
    table = BlockTable.read(folder)
    excluded = {*_OF_ONE_MODEL, *_OF_A_FAMILY, *(table.files if table is not None else ())}
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in _SUFFIXES
        and not path.name.endswith(".index.json")
        and path.is_file()
        and path.name not in excluded
    ]


def check_companions(folder: Path) -> None:
    """Check these files before hours of merging.

    Raises:
        MergeError: one is a pointer of Git LFS, a web page, empty, or no JSON; the message says what to do.
    """
    for path in companions_in(folder):
        check_companion(path)
