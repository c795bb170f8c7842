"""Finds the models of a mergekit file, and compares their tokenizers."""

from pathlib import Path

from mmgrid.files import HubError, HubName
from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.model_name import ModelName
from mmgrid.merging.models.hub import downloaded


def folder_of(model: ModelName, file_folder: Path, where: str) -> Path:
    """The folder of a model: as given, relative to the mergekit file's folder, or on the Hub.

    Raises:
        MergeError: it is in none of these places.
    """
    for text in (str(model), model.path):  # a folder's name may contain an @
        for path in (Path(text).absolute(), file_folder / text):
            if path.exists():
                return path
    name = HubName.parse(model.path, without_organisation=True)
    if name is None:
        raise MergeError(f"{where}: model {model.path!r} is neither a folder on this machine nor a name on the Hub")
    try:
        return downloaded(HubName(name.repo, model.revision))
    except HubError as error:
        raise MergeError(
            f"{where}: model {model.path!r} is not a folder on this machine. On the Hub: {error}"
        ) from error
