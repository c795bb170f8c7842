"""How well the runners keep workers busy: 200 cells that only wait, on 1, 2 and 4 workers, locally and on Ray.

    python benchmarks/scheduling.py [--workers 1 2 4] [--only local ray]

Cells wait, so workers may outnumber cores. They form a grid: corpora, chains of phases, and evaluations of each phase. No
schedule is faster than the *bound*: the longest chain, or all seconds over the workers. *Simulated* is what
`mmgrid.grid.costs.makespan` expects from the same seconds. The clock starts when the first cell does, in its worker: a
worker takes some seconds to start, once in a run.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.costs.makespan import makespan
from mmgrid.grid.file.load import Grid, load_grid
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.runners import CellEvent, Crew, LocalCrew, run_cells
from mmgrid.store import Store

CHAINS, PHASES, EVALUATIONS = 10, 4, 4
GRID = Path(__file__).parent.parent / "grids" / "demo.toml"
# Python imports this in each process that builds cells, if its folder is on the path.
WAITING = """\
import sys

if any("spawn_main" in argument for argument in sys.orig_argv):
    import time

    from mmgrid.runners import worker

    def wait(cell, grid, store, progress):
        progress(0, 1, None)
        time.sleep(cell.recipe["seconds"])
        return "built"

    worker.build_cell = wait
"""


def cells_that_wait() -> list[Cell]:
    """200 cells, each of 0.2 to 0.8 seconds; the recipe says how many."""
    draw = random.Random(0)

    def cell(kind: str, *key: object, **upstream: Cell) -> Cell:
        return Cell(kind, tuple(map(str, key)), {"seconds": draw.uniform(0.2, 0.8)}, upstream)

    found = []
    for chain in range(CHAINS):
        above = cell("corpus", chain)
        found.append(above)
        for phase in range(PHASES):
            above = cell("corpus", chain, phase, before=above)
            found.append(above)
            found += [cell("corpus", chain, phase, number, model=above) for number in range(EVALUATIONS - (phase == 0))]
    return found


def seconds_of(cells: list[Cell], crew: Crew, store: Store, workers: int) -> float:
    """The time from the first cell that has begun in its worker to the last one that is built."""
    times: list[float] = []

    def note(event: CellEvent) -> None:
        if event.state in ("progress", "built"):
            times.append(time.monotonic())

    outcome = run_cells(cells, store, crew, TimeLeft(cells, {}, store, workers), on_event=note)
    assert outcome.complete, outcome
    return times[-1] - times[0]


@contextmanager
def crew_of(kind: str, grid: Grid, store: Store, workers: int) -> Iterator[Crew]:
    if kind == "local":
        yield LocalCrew(grid, store, workers, ())
        return
    from mmgrid.runners.cluster import RayCrew, connected

    with connected("local", workers) as machines, RayCrew(grid, store, machines).at_work() as crew:
        yield crew


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--only", nargs="+", default=["local", "ray"] if find_spec("ray") else ["local"])
    arguments = parser.parse_args()
    cells = cells_that_wait()
    costs = {cell: float(cell.recipe["seconds"]) for cell in cells}
    longest = makespan(costs, {"": len(cells)}, lambda _: "")
    print(f"{len(cells)} cells, {sum(costs.values()):.1f} s in all, {longest:.1f} s in the longest chain")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(WAITING)
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, sys.path)])
        for kind in arguments.only:
            for workers in arguments.workers:
                store = Store(Path(folder) / f"{kind}{workers}")
                with crew_of(kind, load_grid(GRID), store, workers) as crew:
                    took = seconds_of(cells, crew, store, workers)
                bound = max(longest, sum(costs.values()) / workers)
                simulated = makespan(costs, {"": workers}, lambda _: "")
                print(
                    f"{kind:5} {workers} workers: {took:6.1f} s, bound {bound:6.1f} s ({bound / took:.1%}), "
                    f"simulated {simulated:6.1f} s ({simulated / took - 1:+.1%})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
