"""Which cells want a GPU."""

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.evaluations import BASELINE
from mmgrid.grid.cells.stored import EXACT


def computes(cell: Cell) -> bool:
    """Whether a GPU builds the cell faster: it trains or asks a model."""
    if cell.kind == "evaluation":
        return cell.recipe["paradigm"] != BASELINE
    if cell.kind == "checkpoint":
        return "files" not in cell.recipe and EXACT not in cell.upstream
    return cell.kind in ("backbone", "learned", "codes") or (cell.kind == "vectors" and "file" not in cell.recipe)
