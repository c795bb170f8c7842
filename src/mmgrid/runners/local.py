"""Builds cells side by side on one machine: a process in each place.

A cell that brings its process down affects no other cell.
"""

from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.machine.gpus import visible_gpus
from mmgrid.runners.crew import Message
from mmgrid.runners.events import EventCallback, RunOutcome
from mmgrid.runners.places import Place, default_jobs, places_of
from mmgrid.runners.process import WorkerProcess
from mmgrid.runners.run import run_cells
from mmgrid.store import Store


class LocalCrew:
    """Processes of this machine, in places that stay the same.

    Args:
        jobs: how many.
        gpus: each is for one process, which sees no other.
    """

    attempts = 1  # what brings a process down here does so again

    def __init__(self, grid: Grid, store: Store, jobs: int, gpus: Sequence[str]) -> None:
        self._grid, self._root, self._places = grid, store.root, places_of(jobs, gpus)

    def places(self) -> Sequence[Place]:
        return self._places

    def able(self, place: Place, cell: Cell) -> bool:
        return place.takes(cell)

    def has_room(self, place: Place, cell: Cell, worker: WorkerProcess | None) -> bool:
        return True  # memory is the user's matter, by the number of jobs

    def hire(self, place: Place, cell: Cell, worker: WorkerProcess | None) -> WorkerProcess:
        return worker or WorkerProcess(self._grid, self._root, place.environment)

    def messages(self, busy: Sequence[WorkerProcess], seconds: float) -> Iterator[tuple[WorkerProcess, Message]]:
        of = {worker.pipe: worker for worker in busy}
        for pipe in wait(list(of), timeout=seconds):
            worker = of[pipe]  # type: ignore[index]
            try:
                yield worker, worker.pipe.recv()
            except (EOFError, OSError):
                yield worker, ("lost", worker.ended())


def run_local(
    cells: Sequence[Cell],
    grid: Grid,
    store: Store,
    *,
    jobs: int | None = None,
    gpus: Sequence[str] | None = None,
    on_event: EventCallback | None = None,
    of_grid: Sequence[Cell] | None = None,
) -> RunOutcome:
    """Build those of `cells` that are missing in the store, `jobs` at a time, on this machine.

    Args:
        cells: upstream first; the upstream of every cell must be among them, except exact weights that none needs.
        jobs: worker processes; None: `default_jobs`.
        gpus: each builds one cell at a time, in a process that sees no other; None: those that this process sees.
        on_event, of_grid: see `run_cells`.

    Raises:
        ValueError: an upstream cell is not among `cells`.
    """
    gpus = visible_gpus() if gpus is None else gpus
    n_jobs = jobs or default_jobs(grid.spec.threads_per_cell, gpus)
    left = TimeLeft(cells, {}, store, n_jobs, grid, gpus=len(gpus))
    return run_cells(cells, store, LocalCrew(grid, store, n_jobs, gpus), left, on_event=on_event, of_grid=of_grid)
