"""Fetches the models that cells need from the Hub before workers start, so that the bars of the downloads are seen.

What workers print goes into logs. A model that the Hub does not give is left to the cell that needs it, which fails with
the reason and blocks no other.
"""

import logging
from collections.abc import Iterable

from mmgrid.files import HubError, HubName, model_folder
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.grid.file.spec import PretrainedBackbone

log = logging.getLogger(__name__)


def fetch_models(cells: Iterable[Cell], grid: Grid) -> list[HubName]:
    """Bring the models for `cells`, which are to be built, into the Hub's cache; returns those that are there.

    Models in folders, and those that no cell needs, are left alone.
    """
    found = []
    for name, more, parts in _needed({cell.kind for cell in cells}, grid):
        try:
            model_folder(name, more=more, parts=parts)
        except HubError as error:
            log.debug("%s", error)
        else:
            found.append(name)
    return found


def _needed(kinds: set[str], grid: Grid) -> Iterable[tuple[HubName, tuple[str, ...], bool]]:
    backbone, vectors = grid.spec.backbone, grid.spec.item_vectors
    if "backbone" in kinds and isinstance(backbone, PretrainedBackbone):
        name = _on_hub(backbone.path, backbone.revision, grid)
        if name is not None:
            yield name, ("*.py",) if backbone.trust_remote_code else (), False
    if "vectors" in kinds and vectors.source == "sentence-transformers":
        name = _on_hub(str(vectors.path), vectors.revision, grid)
        if name is not None:
            yield name, (), True  # its pipeline has parts in folders of their own


def _on_hub(path: str, revision: str | None, grid: Grid) -> HubName | None:
    """The name on the Hub that a path of the grid file means; None for a folder."""
    name = None if grid.path(path).is_dir() else HubName.parse(path, without_organisation=True)
    return None if name is None else HubName(name.repo, revision or name.revision)
