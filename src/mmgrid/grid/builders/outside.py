"""Files outside the store that a cell is built from: raw data, tables of vectors, models in folders.

Their digests were taken when the run began, and are part of the fingerprint. A builder reads the files later, and perhaps
not as they were; what it has made of others must not be published under that fingerprint.
"""

from collections.abc import Mapping
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.sources import Digest, Sources
from mmgrid.grid.file.load import Grid, GridError

_NAMED = ("file", "files", "below", "family")  # what a recipe says of them


def check_outside(cell: Cell, grid: Grid, digest: Digest) -> None:
    """Check, once a cell is made, that the files outside the store which it was made from are still the same.

    Raises:
        GridError: one has changed since the run began.
        DataError, OSError: one is gone.
    """
    sources = Sources(grid, digest, grid.spec.all_seeds[0])
    for one in (cell, *_asked_again(cell)):
        before = {name: one.recipe[name] for name in _NAMED if name in one.recipe}
        if not before or one.kind not in ("corpus", "vectors", "backbone"):
            continue
        now = {name: value for name, value in sources.again(one).recipe.items() if name in _NAMED}
        if now != before:
            raise GridError(
                f"{_changed(before, now)}: changed since this run began, so nothing that was made of it is published; run "
                "again when no process writes to it"
            )


def _asked_again(cell: Cell) -> list[Cell]:
    """The vectors of titles whose embedding model an evaluation asks as well."""
    titles = [above for above in cell.upstream.values() if above.recipe.get("texts") == "titles"]
    return titles if cell.kind == "evaluation" else []


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The name of a file that has changed, where the recipe has names."""
    old, new = before.get("files"), now.get("files")
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        if names:
            return names[0]
    return "a file that it is built from"
