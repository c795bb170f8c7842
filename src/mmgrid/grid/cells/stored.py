"""Checkpoints that are stored as changes of the checkpoint before, as `[store] keep = "delta"` asks for.

Each is two cells. One is trained, has the fingerprint that it has where checkpoints are stored exactly, and is temporary:
it is there as long as a missing cell is built from its exact weights, the next phase or the other cell. The other has the
change from what its training started from, as that is stored, and is what merges, evaluations and studies see.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import recipe_values
from mmgrid.grid.file.store import StoreSpec

EXACT, START = "exact", "start"  # the roles of the trained cell, and of the one that the change is taken from
TRAINING_SECONDS = "training_seconds"  # in the record of a stored checkpoint, whose own seconds are those of storing
STORED_VERSION = 1
"""Version of the code that writes changes. Raise it when the same weights are written in another way."""


def as_stored(trained: Cell, start: Cell | None, store: StoreSpec) -> Cell:
    """The cell that is kept of a trained checkpoint; the checkpoint itself if it is stored exactly.

    Args:
        start: what its training started from, as it is stored. What started from nothing is stored exactly, and so is an
            adapter, which is small as it is.
    """
    if store.part is None or start is None or _is_adapter(trained):
        return trained
    exact = replace(trained, key=(*trained.key, EXACT), temporary=True)
    recipe = {name: trained.recipe[name] for name in ("paradigm", "phase", "seed")}
    recipe["part"] = recipe_values(store.part)
    return Cell(trained.kind, trained.key, recipe, {EXACT: exact, START: start}, version=STORED_VERSION)


def is_exact(kind: str, key: Sequence[str]) -> bool:
    """Whether a cell of this kind and key holds such exact weights; a model may be called so, too."""
    return kind == "checkpoint" and len(key) > 3 and key[-1] == EXACT  # behind paradigm, domain and phase


def exact_weights(model: Cell) -> Cell:
    """The cell with a model's weights as they were trained."""
    return model.upstream.get(EXACT, model)


def read_with(cell: Cell) -> Iterator[Cell]:
    """A cell, and those that are read with it: what a change is a change of, the model that an adapter was trained on."""
    yield cell
    if EXACT in cell.upstream:
        yield from read_with(cell.upstream[START])
    elif _is_adapter(cell):
        below = cell
        while _is_adapter(below):
            below = below.upstream[START]
        yield below


def needed(cells: Sequence[Cell], is_built: Callable[[Cell], bool]) -> list[Cell]:
    """`cells` (upstream first) without the temporary ones that no missing cell among them is built from."""
    asked: set[Cell] = set()
    for cell in reversed(cells):
        exact = [above for above in cell.upstream.values() if above.temporary]
        if exact and (cell in asked or not cell.temporary) and not is_built(cell):
            asked.update(exact)
    return [cell for cell in cells if cell in asked or not cell.temporary]


def _is_adapter(cell: Cell) -> bool:
    return cell.kind == "checkpoint" and cell.recipe.get("lora") is not None
