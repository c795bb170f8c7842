"""How long a run will still take, as far as its cells tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.standing.cost import estimate
from mmgrid.store import Record, Store, StoreError


class TimeLeft:
    """Grows more exact while cells are built: each tells what a cell like it costs."""

    def __init__(self, cells: Sequence[Cell], records: Mapping[Cell, Record], store: Store, jobs: int) -> None:
        self._cells = {cell.name: cell for cell in cells}
        self._records = dict(records)
        self._open = {cell for cell in cells if cell not in records}
        self._store = store
        self._jobs = jobs

    def without(self, name: str) -> float | None:
        """Seconds that are left when this cell needs no more work; None while some cell's cost is not known."""
        cell = self._cells[name]
        self._open.discard(cell)
        with suppress(StoreError):  # of a failed or damaged cell nothing can be learnt
            self._records[cell] = self._store.record(cell.address)
        costs = estimate(sorted(self._open, key=lambda cell: cell.name), self._records)
        if any(cost is None for cost in costs.values()):
            return None
        return sum(cost for cost in costs.values() if cost) / max(1, min(self._jobs, len(costs)))
