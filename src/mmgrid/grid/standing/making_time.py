"""How long it took to make what serves some domains, beyond their own models."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import is_joint, is_variant
from mmgrid.grid.cells.stored import TRAINING_SECONDS
from mmgrid.store import Record

_MADE = ("checkpoint", "merge", "learned", "family")  # kinds of cells that make models; corpora and codes serve all


def seconds_to_make(evaluations: Sequence[Cell], records: Mapping[Cell, Record]) -> float | None:
    """Seconds of all cells that made the evaluated models, each once, without the trainings of the domains' own models.

    A merge that is computed within its evaluation has no cell, and takes no time here. Of a training that was interrupted,
    only the last run counts. None if a cell is not built.
    """
    made = {maker for cell in evaluations for maker in _makers(cell)}
    return sum(_seconds(records[maker]) for maker in made) if made <= records.keys() else None


def _seconds(record: Record) -> float:
    """Of a checkpoint that is stored as a change, those of its training, too."""
    training: Any = record.summary.get(TRAINING_SECONDS, 0.0)
    return record.seconds + training


def _makers(cell: Cell) -> Iterator[Cell]:
    for above in cell.upstream.values():
        own = above.kind == "checkpoint" and not is_joint(above) and not is_variant(above)
        if above.kind in _MADE and not own and not above.temporary:
            yield above
            yield from _makers(above)
