"""From a grid to its cells: what there is to build, and from what.

Nothing is read here but the digests of raw files, so that planning costs nothing.
"""

from collections import Counter

from mmgrid.grid.cells.ask import study_cells
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.cells.expansion import Digest, Expansion
from mmgrid.grid.file.load import Grid, GridError


def expand(grid: Grid, digest: Digest) -> list[Cell]:
    """All cells of the grid, what is built first coming first.  `digest(path)` gives a raw file's SHA-256."""
    found: list[Cell] = []
    for seed in grid.spec.all_seeds:
        expansion = Expansion(grid, digest, seed)
        built = expansion.built()
        found += [*expansion.cells(built), *study_cells(expansion, built)]
    cells = with_upstream(found)  # studies share evaluations, and seeds their corpora
    names = Counter(cell.name for cell in cells)
    for name, count in names.items():
        if count > 1:  # then nobody could tell their results apart
            where = "studies" if name.startswith("study/") else "merges"
            raise GridError(f"{grid.file}: {where}: {count} different ones are called {name}; leave one out")
    return cells
