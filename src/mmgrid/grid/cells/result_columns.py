"""What results say of a merge: the columns `sources`, `merge` and `parameter`, and which cells are draws of one merge."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.merges import draw_name
from mmgrid.grid.cells.study_cells import BETWEEN_PHASES

FAMILY = "family"  # in the column `merge`


def merge_columns(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The merge columns of an evaluation's results: sources, merge, and λ, α or the weight of the evaluated domain.

    A merge with a name of its own is called by it, others by their method.
    """
    if line := recipe.get("line"):
        sources = ("t1", "t2") if line["kind"] == BETWEEN_PHASES else (line["first"], line["second"])
        return {"sources": sources, "merge": line["kind"], "parameter": float(line["at"])}
    if family := recipe.get("family"):
        return {"sources": tuple(family["sources"]), "merge": FAMILY, "parameter": None}
    merge = recipe.get("merge", {})
    weights = merge.get("weights", {})
    if "rules" in merge:
        return {"sources": tuple(weights), "merge": model_name(recipe), "parameter": None}
    share = weights.get(recipe["domain"])
    return {
        "sources": tuple(weights),
        "merge": merge.get("method", ""),
        "parameter": None if share is None else float(share),
    }


def model_name(recipe: Mapping[str, Any]) -> str:
    """The name of an evaluation's model; draws of one merge have the same."""
    name, draw = str(recipe["model"]), recipe.get("merge", {}).get("draw", 0)
    return name.removesuffix(draw_name("", draw)) if draw else name


def by_draws(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Evaluations, those of the draws of one merge together, the first draw first."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((*cell.key[:2], model_name(cell.recipe), *cell.key[3:]), []).append(cell)
    return [sorted(group, key=lambda cell: cell.recipe.get("merge", {}).get("draw", 0)) for group in groups.values()]
