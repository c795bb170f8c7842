"""Who builds the cells of a run: this machine, or a Ray cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmgrid.cli.session import Session
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.machine.gpus import visible_gpus
from mmgrid.runners import Crew, LocalCrew, default_jobs


@contextmanager
def crew_of(
    session: Session, cells: Sequence[Cell], jobs: int | None, ray: str | None
) -> Iterator[tuple[Crew, TimeLeft]]:
    """The crew, and the estimate of its time.

    jobs: cells built at a time; None: as many as there is room for. ray: the address of a cluster; None: none.

    Raises:
        ClusterError: the cluster does not answer.
    """
    grid, store = session.grid, session.store

    def left(n_jobs: int, gpus: int) -> TimeLeft:
        return TimeLeft(cells, session.records, store, n_jobs, grid, gpus=gpus)

    if ray is None:
        gpus = visible_gpus()
        if not gpus:
            session.warn_of_slow_bf16(cells)
        n_jobs = jobs or default_jobs(grid.spec.threads_per_cell, gpus)
        yield LocalCrew(grid, store, n_jobs, gpus), left(n_jobs, len(gpus))
        return
    from mmgrid.runners.cluster import RayCrew, connected

    cores = jobs * grid.spec.threads_per_cell if jobs else None
    with connected(ray, cores) as machines, RayCrew(grid, store, machines, jobs).at_work() as crew:
        places = crew.places()
        yield crew, left(len(places), sum(bool(place.gpu) for place in places))
