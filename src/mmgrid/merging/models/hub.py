"""Finds the folder of a model that a recipe or command names: on this machine, or on the Hugging Face Hub."""

from pathlib import Path

from mmgrid.files import HubError, HubName, model_folder, on_hub
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.companions import patterns_below
from mmgrid.merging.models.token_blocks import BlockTable


def found(path: Path) -> Path:
    """The path itself; for a name on the Hub, the model's folder in the Hub's cache, downloaded if it is missing there.

    Raises:
        MergeError: nothing exists at the path, and the Hub gives no such model.
    """
    name = on_hub(path)
    if name is None:
        return path
    try:
        return downloaded(name)
    except HubError as error:
        raise MergeError(f"{error}; there is no folder of this name here either") from error


def downloaded(name: HubName) -> Path:
    """The folder of a model in the Hub's cache, with the files of its token blocks, its modules and its chat templates.

    Raises:
        HubError: see `model_folder`.
    """
    folder = model_folder(name)
    table = BlockTable.read(folder)
    absent = [] if table is None else [file for file in sorted(table.files) if not (folder / file).exists()]
    below = patterns_below(folder)
    return model_folder(name, more=absent, below=below) if absent or below else folder
