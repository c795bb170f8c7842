"""The state of each cell of a grid in its store: built, or why it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmgrid.grid.cells.cell import Cell
from mmgrid.store import DamagedFilesError, NewerRecordError, Record, Store, StoreError


@dataclass(frozen=True)
class CellState:
    """A state.

    problem: the error of a damaged or failed cell, or the name of the cell that a blocked one waits for. built_again:
    whether a run builds a damaged cell again.
    """

    name: Literal["built", "damaged", "failed", "blocked", "missing"]
    problem: str = ""
    built_again: bool = False

    @property
    def blocks(self) -> bool:
        """Whether nothing can be built from the cell."""
        return self.name in ("failed", "blocked") or (self.name == "damaged" and not self.built_again)


_BUILT, _MISSING = CellState("built"), CellState("missing")


def survey(cells: Sequence[Cell], store: Store) -> tuple[dict[Cell, Record], dict[Cell, StoreError]]:
    """The records of the built cells, and the problem of each cell whose record or files are damaged."""
    records, damaged = {}, {}
    for cell in cells:
        try:
            if record := store.find(cell.address):
                records[cell] = record
        except StoreError as error:
            damaged[cell] = error
    return records, damaged


def cell_states(
    cells: Sequence[Cell], records: Mapping[Cell, Record], damaged: Mapping[Cell, object], store: Store
) -> dict[Cell, CellState]:
    """The state of each of `cells` (upstream cells first).

    A cell has failed if the newest attempt to build it failed. It is blocked if any cell upstream of it, directly or
    not, has failed, or is damaged and not built again by a run (see `RunOutcome.damaged`). A cell whose record only a newer
    version knows has failed, too.
    """
    found: dict[Cell, CellState] = {}
    blocking: dict[Cell, CellState] = {}
    for cell in cells:
        if cell in records:
            state = _BUILT
        elif cell in damaged:
            name = "failed" if isinstance(damaged[cell], NewerRecordError) else "damaged"
            state = CellState(name, str(damaged[cell]), isinstance(damaged[cell], DamagedFilesError))
        else:
            state = _not_built(cell, blocking, store)
        found[cell] = state
        if state.blocks:
            blocking[cell] = state
    return found


def is_built(cell: Cell, store: Store) -> bool:
    """Whether a run leaves the cell as it is: it is in the store, with all its files, or with a record that is damaged."""
    try:
        return store.has(cell.address)
    except DamagedFilesError:
        return False
    except StoreError:
        return True


def _not_built(cell: Cell, blocking: Mapping[Cell, CellState], store: Store) -> CellState:
    for above in cell.upstream.values() if blocking else ():
        if state := blocking.get(above):
            return state if state.name == "blocked" else CellState("blocked", above.name)
    failure = store.failure(cell.address)
    return CellState("failed", failure.message) if failure else _MISSING
