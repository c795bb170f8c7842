"""The files that accompany the weights: config, tokenizer, and the files of token blocks."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.files import write_json
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.token_blocks import BlockTable
from mmgrid.merging.plan.block_files import BlockFile

_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_OF_ONE_MODEL = (MMGRID_FILE, "record.json", "trainer_state.json", "training.json")


def copy_companions(source: Path, folder: Path, dtype: str | None, vocabulary: int | None = None) -> None:
    """Copy config, tokenizer and generation files from a model's folder; not the files of its token blocks.

    Args:
        source: the model's folder, or a weight file, which has no companions.
        folder: the folder to copy them to.
        dtype: the type of all merged tensors, written to the config, because loading would otherwise round the weights
            to the type named there. None if they have several.
        vocabulary: number of token rows of the result, if it has token blocks.
    """
    if not source.is_dir():
        return
    table = BlockTable.read(source)
    excluded = {*_OF_ONE_MODEL, *(table.files if table is not None else ())}
    for path in sorted(source.iterdir()):
        wanted = path.suffix in _SUFFIXES and not path.name.endswith(".index.json")
        if wanted and path.is_file() and path.name not in excluded:
            shutil.copyfile(path, folder / path.name)
    config = folder / "config.json"
    if config.exists():
        try:
            value = json.loads(config.read_bytes())
        except ValueError as error:
            raise MergeError(f"{source / config.name}: is not JSON: {error}") from error
        changed = value if dtype is None else _with_dtype(value, dtype)
        if vocabulary is not None and "vocab_size" in value:
            changed = changed | {"vocab_size": vocabulary}
        if changed != value:
            config.unlink()
            write_json(config, changed)


def copy_block_files(files: Mapping[str, BlockFile], folder: Path) -> None:
    """Copy the files of the result's token blocks.

    Raises:
        MergeError: the folder already has a file of this name.
    """
    for name, file in files.items():
        if (folder / name).exists():
            raise MergeError(f"{file.path}: the result already has another file called {name}; rename it")
        shutil.copyfile(file.path, folder / name)


def _with_dtype(value: Any, dtype: str) -> Any:
    """A config, sub-configs included, with the type of its weights replaced wherever it names one."""
    if not isinstance(value, dict):
        return value
    return {
        key: dtype if key in ("dtype", "torch_dtype") and isinstance(item, str) else _with_dtype(item, dtype)
        for key, item in value.items()
    }
