"""Every grid file of the repository can be planned."""

import os
from pathlib import Path

import pytest

from mmgrid.grid.cells.expand import expand
from mmgrid.grid.file.load import load_grid

GRIDS = Path(__file__).parents[2] / "grids"
FILES = sorted(GRIDS.rglob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=[file.relative_to(GRIDS).as_posix() for file in FILES])
def test_it_has_cells(file: Path) -> None:
    if "MMGRID_DATA" in file.read_text() and "MMGRID_DATA" not in os.environ:
        pytest.skip("MMGRID_DATA does not name a folder of real data")
    cells = expand(load_grid(file), lambda path: "0" * 64, bare=True)
    assert any(cell.kind == "evaluation" for cell in cells)


def test_the_grid_of_all_ways_to_serve_has_all_of_them() -> None:
    cells = expand(load_grid(GRIDS / "serving.toml"), lambda path: "0" * 64)
    asked = {cell.key[2] for cell in cells if cell.kind == "evaluation" and cell.key[:2] == ("semb", "games")}
    ways = {"average", "ties", "subspace", "shared_users", "low_rank", "delta2", "delta4", "joint-phase2", "further"}
    assert ways | {"rehearsed", "phase2"} <= asked
