"""What storing checkpoints as changes saves, and what it loses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.stored import EXACT
from mmgrid.store import Record


@dataclass(frozen=True)
class StoredChanges:
    """The checkpoints of a grid that are stored as changes.

    Attributes:
        number: of checkpoints. bits: per weight of a change.
        bytes: of their weights. plain_bytes: of the same weights as they were trained.
        least_error, most_error: ‖θ − θ̂‖ / ‖θ − θ_start‖, where θ_start is what the training started from, as it is stored.
    """

    number: int
    bits: int
    bytes: int
    plain_bytes: int
    least_error: float
    most_error: float


def stored_changes(records: Mapping[Cell, Record]) -> StoredChanges | None:
    """Those that are built; None if there are none."""
    found = {cell: record.summary for cell, record in records.items() if EXACT in cell.upstream}
    if not found:
        return None

    def each(name: str) -> list[Any]:
        return [summary[name] for summary in found.values()]

    bits = next(iter(found)).recipe["part"]["bits"]
    return StoredChanges(
        len(found), bits, sum(each("bytes")), sum(each("plain_bytes")), min(each("error")), max(each("error"))
    )
