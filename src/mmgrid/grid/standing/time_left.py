"""Estimates the remaining time of a run."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.standing.cost import estimate
from mmgrid.store import Record, Store, StoreError


class TimeLeft:
    """The estimate; every built cell improves it for similar cells."""

    def __init__(self, cells: Sequence[Cell], records: Mapping[Cell, Record], store: Store, jobs: int) -> None:
        self._cells = {cell.name: cell for cell in cells}
        self._records = dict(records)
        self._open = {cell for cell in cells if cell not in records}
        self._store = store
        self._jobs = jobs

    def without(self, name: str) -> float | None:
        """The seconds left once the cell `name` is finished; None while the cost of any cell is unknown."""
        cell = self._cells[name]
        self._open.discard(cell)
        with suppress(StoreError):  # a failed or damaged cell has no usable record
            self._records[cell] = self._store.record(cell.address)
        costs = estimate(sorted(self._open, key=lambda cell: cell.name), self._records)
        if any(cost is None for cost in costs.values()):
            return None
        return sum(cost for cost in costs.values() if cost) / max(1, min(self._jobs, len(costs)))
