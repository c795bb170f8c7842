"""Removes the exact weights of checkpoints that are stored as changes, as soon as nothing is built from them any more."""

import logging
from collections.abc import Iterable, Sequence

from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.cells.stored import needed
from mmgrid.grid.standing.state import is_built
from mmgrid.store import Store

_LOG = logging.getLogger(__name__)


class ExactWeights:
    """The temporary cells of a grid, and the cells that are built from them.

    Args:
        cells: of the whole grid, since exact weights stay as long as any missing cell of it needs them.
    """

    def __init__(self, cells: Iterable[Cell], store: Store) -> None:
        self._cells = with_upstream(cells)
        self._store = store
        self._concerned = {
            cell for cell in self._cells if cell.temporary or any(above.temporary for above in cell.upstream.values())
        }
        self._built = {cell for cell in self._concerned if is_built(cell, store)}
        self._remove_unneeded()

    def needed(self, cells: Sequence[Cell]) -> list[Cell]:
        """`cells` without the temporary ones that no missing cell among them is built from."""
        return needed(cells, self._built.__contains__)

    def note_built(self, cell: Cell) -> None:
        """Note that a cell is in the store by now, and remove what nothing needs any more."""
        if cell in self._concerned:
            self._built.add(cell)
            self._remove_unneeded()

    def needed_again(self, cell: Cell) -> list[Cell]:
        """Note that a cell is to be built again; returns the temporary cells, upstream first, that were removed and that it
        is built from."""
        self._built.discard(cell)
        found: list[Cell] = []
        for above in cell.upstream.values():
            if above.temporary and above not in self._built:
                found += [*self.needed_again(above), above]
        return found

    def _remove_unneeded(self) -> None:
        kept = set(needed(self._cells, self._built.__contains__))
        for cell in [one for one in self._built if one.temporary and one not in kept]:
            self._built.discard(cell)
            try:
                self._store.remove(cell.address)
            except OSError as error:  # it is only a matter of room, and the next run tries again
                _LOG.warning("%s: its exact weights were not removed: %s", cell.name, error)
