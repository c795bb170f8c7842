"""The overhead of a temporal sweep in a grid over its evaluations alone: 21 λ, written to a store as in a run.

Both sides write the same 21 cells. One evaluates 21 points of the line; the other evaluates the checkpoint at t2 every
time, loaded once, so that nothing is merged or moved. Their order alternates.

python benchmarks/grid_sweep.py GRID --store DIR [--domain NAME] [--repeats 2]     # needs the grid's checkpoints built
"""

import argparse
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch

from mmgrid.files import DigestCache
from mmgrid.grid.builders import build_cell, models
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.expand import expand
from mmgrid.grid.file.load import Grid, load_grid
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.store import Store

POINTS = 21


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--domain")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = ['studies=[{kind="temporal", scales={from=0.05, to=1.1, step=0.05}}]']
    grid, store = load_grid(options.grid, settings), Store(options.store)
    cells = [c for c in expand(grid, DigestCache(store.root / "digests.json").sha256) if "line" in c.recipe]
    domain = options.domain or cells[0].recipe["domain"]
    points = [cell for cell in cells if cell.recipe["domain"] == domain][:POINTS]
    assert len(points) == POINTS, f"{len(points)} points"
    _time(points[:1], grid, store, moved=True)  # imports, tokens, page cache
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for repeat in range(options.repeats):
        for moved in (True, False) if repeat % 2 else (False, True):
            seconds[moved].append(_time(points, grid, store, moved=moved))
    plain, sweep = min(seconds[False]), min(seconds[True])
    print(f"| {domain}, {POINTS} points | seconds |\n|---|--:|")
    print(
        f"| evaluations alone | {plain:.2f} |\n| the sweep | {sweep:.2f} |\n| overhead | {100 * (sweep / plain - 1):+.1f} % |"
    )


def _time(points: list[Cell], grid: Grid, store: Store, *, moved: bool) -> float:
    """Seconds to build the cells in a new store that shares the upstream cells of `store`."""
    models._kept.clear()
    with tempfile.TemporaryDirectory() as folder:
        copy = Store(Path(folder) / "store")
        for cell in points[0].upstream.values():
            place = copy.folder(cell.address)
            place.parent.mkdir(parents=True)
            place.symlink_to(store.folder(cell.address))
        started = time.perf_counter()
        if moved:
            _build(points, grid, copy)
        else:
            loaded = load_checkpoint(store.folder(points[0].upstream["end"].address))
            with patch.object(models, "evaluated_model", lambda job: loaded):
                _build(points, grid, copy)
        return time.perf_counter() - started


def _build(points: list[Cell], grid: Grid, store: Store) -> None:
    for cell in points:
        assert build_cell(cell, grid, store) == "built"


if __name__ == "__main__":
    main()
