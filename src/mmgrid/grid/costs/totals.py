"""What a grid costs as a whole, on some devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.computing import computes
from mmgrid.grid.costs.disk import disk_of
from mmgrid.grid.costs.known import Known
from mmgrid.grid.costs.makespan import makespan

CORES_PER_GPU = 8  # for cells that need no GPU


@dataclass(frozen=True)
class Total:
    """Building the missing cells on so many devices.

    seconds: from the first to the last cell. work: of all devices together. disk: bytes.
    """

    devices: int
    seconds: float
    work: float
    disk: float


def total(costs: Mapping[Cell, float | None], known: Known, devices: int) -> Total:
    """On so many GPUs, one for each cell or process of one, with cores for what needs none. Cells of unknown cost are left
    out; a cell of more processes than there are GPUs takes longer, as with fewer processes.
    """
    work = {cell: cost * cell.processes for cell, cost in costs.items() if cost is not None}
    seconds = {cell: cost / min(cell.processes, devices) for cell, cost in work.items()}
    places = {"gpu": devices, "core": CORES_PER_GPU * devices}
    return Total(
        devices,
        makespan(seconds, places, lambda cell: "gpu" if computes(cell) else "core"),
        sum(cost for cell, cost in work.items() if computes(cell)),
        disk([*costs], known),
    )


def with_jobs(costs: Mapping[Cell, float | None], jobs: int | None) -> float:
    """The seconds of building the missing cells on cores, so many at a time, wherever they are; None: any number.

    That last one is the longest chain of cells, and no more cores make it shorter. Cells of unknown cost are left out.
    """
    seconds = {cell: cost for cell, cost in costs.items() if cost is not None}
    return makespan(seconds, {"job": jobs or max(1, len(seconds))}, lambda _: "job")


def disk(cells: Sequence[Cell], known: Known) -> float:
    """The room of these cells in the store, in bytes, as far as it is known."""
    return sum(found for cell in cells if (found := disk_of(cell, known)) is not None)
