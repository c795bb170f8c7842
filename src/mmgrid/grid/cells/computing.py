"""Which cells want a GPU, and which compute in bfloat16."""

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


def in_bf16(cell: Cell) -> bool:
    """Whether the cell trains or ranks in bfloat16."""
    asked = cell.recipe.get("asked", {})
    named = cell.recipe.get("precision"), asked.get("evaluation_precision")
    return computes(cell) and any(str(name).startswith("bf16") for name in named)
