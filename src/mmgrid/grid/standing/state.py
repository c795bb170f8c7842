"""The state of each cell of a grid in its store: built, or why it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmgrid.grid.cells.cell import Cell
from mmgrid.store import Record, Store


@dataclass(frozen=True)
class CellState:
    """A state. problem: the error of a damaged or failed cell, or the name of the cell that a blocked one waits for."""

    name: Literal["built", "damaged", "failed", "blocked", "missing"]
    problem: str = ""


def cell_states(
    cells: Sequence[Cell], records: Mapping[Cell, Record], damaged: Mapping[Cell, str], store: Store
) -> dict[Cell, CellState]:
    """The state of each of `cells` (upstream cells first).

    A cell has failed if the newest attempt to build it failed. It is blocked if any cell upstream of it, directly or
    not, is damaged or has failed.
    """
    found: dict[Cell, CellState] = {}
    for cell in cells:
        if cell in records:
            found[cell] = CellState("built")
        elif cell in damaged:
            found[cell] = CellState("damaged", damaged[cell])
        else:
            found[cell] = _not_built(cell, found, store)
    return found


def _not_built(cell: Cell, found: Mapping[Cell, CellState], store: Store) -> CellState:
    for above in cell.upstream.values():
        state = found.get(above, CellState("missing"))
        if state.name in ("damaged", "failed"):
            return CellState("blocked", above.name)
        if state.name == "blocked":
            return state
    failure = store.failure(cell.address)
    return CellState("failed", failure.message) if failure else CellState("missing")
