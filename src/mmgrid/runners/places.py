"""Where cells are built: one on each GPU, and those that need none beside them on the cores.

A cell of several processes takes up several of these places, which are one as long as it is built.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    more_gpus: GPUs that no place has; a cell of several processes may have them, too.
    units: the places that it is made of; empty for one of a single process.
    """

    gpu: str | None = None
    takes_all: bool = True
    host: str = ""
    more_gpus: tuple[str, ...] = ()
    units: tuple["Place", ...] = ()

    def takes(self, cell: Cell) -> bool:
        """Whether the cell is built in such a place."""
        return (cell.processes > 1) == bool(self.units) and self.suits(cell)

    def suits(self, cell: Cell) -> bool:
        """Whether it is of the kind that the cell needs, or one of several that it needs."""
        return self.takes_all or computes(cell) == bool(self.gpu)

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that a cell may have there."""
        return (self.gpu, *self.more_gpus) if self.gpu else ()

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its process."""
        seen = self.gpus if self.units else (self.gpu,)
        return {} if self.gpu is None else {VISIBLE: ",".join(name for name in seen if name)}


def default_jobs(threads_per_cell: int, gpus: Sequence[str] = ()) -> int:
    """The number of cells to build at a time: by cores and `threads_per_cell`; with GPUs, at least one beside them."""
    by_cores = max(1, available_cores() // threads_per_cell)
    return max(by_cores, len(gpus) + 1) if gpus else by_cores


def places_of(jobs: int, gpus: Sequence[str]) -> list[Place]:
    """`jobs` places: one for each GPU, as far as one is left for cells that need none; those come last.

    A single one takes all cells. GPUs that are left go to the first place, for cells of several processes.
    """
    if not gpus:
        return [Place()] * jobs
    if jobs == 1:
        return [Place(gpus[0], more_gpus=tuple(gpus[1:]))]
    used = [Place(gpu, takes_all=False) for gpu in gpus[: jobs - 1]]
    used[0] = replace(used[0], more_gpus=tuple(gpus[jobs - 1 :]))
    return used + [Place("", takes_all=False)] * (jobs - len(used))


def together(cell: Cell, free: Sequence[Place], places: Sequence[Place]) -> Place | None:
    """A place for a cell of several processes, made of free ones on one machine: a GPU for each process, or a place.

    Without GPUs, a machine that has fewer places gives all of them.

    Args:
        free: those of `places` in which nothing is built.

    Returns:
        None if too few are free.
    """
    for host in dict.fromkeys(place.host for place in places):
        all_here, here = ([one for one in some if one.host == host and one.suits(cell)] for some in (places, free))
        if any(one.gpus for one in all_here):
            found = _with_gpus(here, cell.processes)
        else:
            wanted = min(cell.processes, len(all_here))
            found = replace(here[0], units=tuple(here[:wanted])) if 0 < wanted <= len(here) else None
        if found is not None:
            return found
    return None


def _with_gpus(free: Sequence[Place], wanted: int) -> Place | None:
    for number in range(1, len(free) + 1):
        gpus = [gpu for place in free[:number] for gpu in place.gpus]
        if len(gpus) >= wanted:
            return replace(free[0], gpu=gpus[0], more_gpus=tuple(gpus[1:wanted]), units=tuple(free[:number]))
    return None
