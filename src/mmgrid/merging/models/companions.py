"""The files beside a model's weights that a merge copies: config, tokenizer, generation settings."""

import contextlib
import glob
import json
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json
from mmgrid.merging.errors import listing
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.family.place import EXPANSION_FILE, FAMILY_FILE, POINTER_FILE
from mmgrid.merging.models.file_kinds import check_companion
from mmgrid.merging.models.settings import CONFIG_FILE
from mmgrid.merging.models.token_blocks import BlockTable
from mmgrid.merging.models.token_files import CHAT_TEMPLATE, TEMPLATES

_SUFFIXES = (".json", ".txt", ".model", ".spm", ".codes", ".jinja", ".tiktoken")
_CODE = ".py"  # of a model with code of its own, which its config then names
_WEIGHTS = (".safetensors", ".bin")
_MODULES = "modules.json"  # of sentence-transformers: the folders of what follows the model, such as pooling
_WITHOUT_FILES = (".Normalize",)  # types of such modules
_WITH_WEIGHTS = (".Dense", ".CNN", ".LSTM")
_OF_ONE_MODEL = (MMGRID_FILE, "record.json", "trainer_state.json", "training.json", "adapter_config.json")
_OF_A_FAMILY = (FAMILY_FILE, POINTER_FILE, EXPANSION_FILE)  # say where the weights of that model are or come from


def companions_in(folder: Path) -> list[Path]:
    """Config, tokenizer and generation files of a model's folder; not the files of its token blocks."""
    if not folder.is_dir():
        return []
    table = BlockTable.read(folder)
    excluded = {*_OF_ONE_MODEL, *_OF_A_FAMILY, *(table.files if table is not None else ())}
    with_code = any("auto_map" in read_json(folder / name) for name in (CONFIG_FILE, "tokenizer_config.json"))
    return [
        path
        for path in sorted(folder.iterdir())
        if (path.suffix in _SUFFIXES or (with_code and path.suffix == _CODE))
        and not path.name.endswith(".index.json")
        and path.is_file()
        and path.name not in excluded
    ]


def companions_below(folder: Path) -> list[Path]:
    """Such files in the folders of a model: of its chat templates, and of the modules of sentence-transformers.

    Weights of such a module, such as a dense layer, are among them.
    """
    below = [folder / name for name in (TEMPLATES, *modules_of(folder))]
    files = [path for place in below if place.is_dir() for path in sorted(place.iterdir()) if path.is_file()]
    return [path for path in files if path.suffix in (*_SUFFIXES, *_WEIGHTS)]


def patterns_below(folder: Path) -> list[str]:
    """Patterns of the paths that such files of a model on the Hub have, by what stands at the top of its folder; not of pickled
    weights."""
    templates = [f"{TEMPLATES}/*.jinja"] if (folder / CHAT_TEMPLATE).is_file() else []  # beside which they are saved
    return templates + [
        f"{glob.escape(name)}/*{end}" for name in modules_of(folder) for end in (*_SUFFIXES, _WEIGHTS[0])
    ]


def modules_of(folder: Path) -> dict[str, str]:
    """The folder of each module of sentence-transformers → its type; without those that lead out of the model."""
    modules: Any = ()
    with contextlib.suppress(OSError, ValueError, RecursionError):
        modules = json.loads((folder / _MODULES).read_bytes())
    told = [module for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
    return {module["path"]: str(module.get("type")) for module in told if _is_name(module.get("path"))}


def modules_with_weights(folder: Path) -> list[str]:
    """The modules of sentence-transformers that have weights of their own."""
    held = {path.parent.name for path in companions_below(folder) if is_weights(path)}
    return [name for name in modules_of(folder) if name in held]


def is_weights(path: Path) -> bool:
    """Whether a file beside or below a model's holds weights."""
    return path.suffix in _WEIGHTS


def _is_name(name: Any) -> bool:
    """Whether a text of somebody else's names a folder in the folder, and does not lead out of it."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def check_companions(folder: Path) -> list[str]:
    """Check these files before hours of merging.

    Returns:
        Notes on folders of modules that are not there, or lack their weights.

    Raises:
        MergeError: one is a pointer of Git LFS, a web page, empty, or no JSON; the message says what to do.
    """
    for path in companions_in(folder):
        if path.suffix != _CODE:  # which may be empty
            check_companion(path)
    held = modules_with_weights(folder)
    absent = [
        name
        for name, type_ in modules_of(folder).items()
        if (not (folder / name).is_dir() and not type_.endswith(_WITHOUT_FILES))
        or (type_.endswith(_WITH_WEIGHTS) and name not in held)
    ]
    if not absent:
        return []
    return [
        f"{listing(absent)}: named by {folder / _MODULES}, but not there, or without weights; copy what is needed to the result"
    ]
