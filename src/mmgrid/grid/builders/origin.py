"""Where the checkpoints of a grid come from, as far as it has names on the Hub: the backbone, and the data."""

from typing import Any

from mmgrid.data import READERS
from mmgrid.files import HubName, name_of
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import Grid
from mmgrid.grid.file.spec import PretrainedBackbone
from mmgrid.store import Store, StoreError


def origin_of(cell: Cell, grid: Grid, store: Store) -> dict[str, Any]:
    """For the entry `origin` of a checkpoint's `mmgrid.json` (see `mmgrid.cards.declared`); empty if nothing is known."""
    found: dict[str, Any] = {}
    above = with_upstream([cell])
    backbone = next((one for one in above if one.kind == "backbone"), None)
    if backbone is not None and isinstance(grid.spec.backbone, PretrainedBackbone):
        found |= _backbone(backbone, grid, store, grid.spec.backbone)
    dataset = getattr(READERS.get(grid.spec.data.format), "HUB_DATASET", None)
    if dataset is not None and any(one.kind == "corpus" for one in above):
        found["datasets"] = [dataset]
    return found


def _backbone(cell: Cell, grid: Grid, store: Store, spec: PretrainedBackbone) -> dict[str, Any]:
    try:
        built = store.record(cell.address).summary
    except (OSError, StoreError):
        built = {}
    folder = grid.path(spec.path)
    named = name_of(folder) if folder.is_dir() else HubName.parse(spec.path, without_organisation=True)
    if named is not None and named.revision is None:
        named = HubName(named.repo, spec.revision)
    found = {"base_model": built.get("hub") or (str(named) if named else None), "license": built.get("license")}
    return {key: value for key, value in found.items() if value}
