"""Where cells are built: one on each GPU, and those that need none beside them on the cores."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.computing import computes
from mmgrid.machine.cores import available_cores
from mmgrid.machine.gpus import VISIBLE


@dataclass(frozen=True)
class Place:
    """The place of one worker process.

    gpu: the GPU that it sees; "" if it sees none; None on a machine without GPUs, whose environment stays as it is.
    takes_all: whether any cell is built there, and not only those that need a GPU, or that need none.
    host: which machine it is on; "" for this one.
    """

    gpu: str | None = None
    takes_all: bool = True
    host: str = ""

    def takes(self, cell: Cell) -> bool:
        """Whether the cell is built in such a place."""
        return self.takes_all or computes(cell) == bool(self.gpu)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its process."""
        return {} if self.gpu is None else {VISIBLE: self.gpu}


def default_jobs(threads_per_cell: int, gpus: Sequence[str] = ()) -> int:
    """The number of cells to build at a time: by cores and `threads_per_cell`; with GPUs, at least one beside them."""
    by_cores = max(1, available_cores() // threads_per_cell)
    return max(by_cores, len(gpus) + 1) if gpus else by_cores


def places_of(jobs: int, gpus: Sequence[str]) -> list[Place]:
    """`jobs` places: one for each GPU, as far as one is left for cells that need none; those come last.

    A single one takes all cells.
    """
    if not gpus:
        return [Place()] * jobs
    if jobs == 1:
        return [Place(gpus[0])]
    used = [Place(gpu, takes_all=False) for gpu in gpus[: jobs - 1]]
    return used + [Place("", takes_all=False)] * (jobs - len(used))
