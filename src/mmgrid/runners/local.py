"""Builds cells side by side on one machine.

Each job is a worker process that lives as long as the run: it imports torch once, its threads are fixed before it
starts, and a cell that brings its process down affects no other cell.
"""

import multiprocessing as mp
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.machine.gpus import visible_gpus
from mmgrid.runners.event_file import EventFile
from mmgrid.runners.events import CellEvent, EventCallback, RunOutcome
from mmgrid.runners.exact_weights import ExactWeights
from mmgrid.runners.places import Place, default_jobs, places_of
from mmgrid.runners.reporting import Reporting
from mmgrid.runners.schedule import Schedule
from mmgrid.runners.worker import run_worker
from mmgrid.store import Address, DamagedFilesError, Store, StoreError
from mmgrid.store.logs import add_line, log_of

START_METHOD = "spawn"  # of worker processes; a fork would copy the threads' locks without the threads
WAIT_SECONDS = 2.0  # before a cell that another process builds is tried again

# Progress is reported through the pipe, so other libraries must not draw bars. Their warnings go into the cell's log.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "warning"}


@dataclass
class _Worker:
    """A worker process in its place, and the cell that it builds at the moment.

    family: that of its newest cell; what the process has read for that cell serves the next one of the family.
    """

    process: SpawnProcess
    pipe: Connection
    place: Place
    cell: Cell | None = None
    started: float = 0.0
    family: str = ""

    def stop(self) -> None:
        with suppress(OSError, ValueError):
            self.pipe.send(None)
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def run_local(
    cells: Sequence[Cell],
    grid: Grid,
    store: Store,
    *,
    jobs: int | None = None,
    gpus: Sequence[str] | None = None,
    on_event: EventCallback | None = None,
    left: TimeLeft | None = None,
    of_grid: Sequence[Cell] | None = None,
) -> RunOutcome:
    """Build those of `cells` that are missing in the store, `jobs` at a time.

    A cell that fails, or has a damaged record in the store, does not stop the others; only cells that depend on it are
    blocked. A cell with damaged files is set aside and built again. Once the disk of the store is full, no cell is
    begun. On an interruption all workers are stopped, and published cells stay.

    Args:
        cells: upstream first; the upstream of every cell must be among them, except exact weights that none needs.
        jobs: worker processes; None: `default_jobs`.
        gpus: each builds one cell at a time, in a process that sees no other; None: those that this process sees.
        on_event: called for every change in the state of a cell.
        left: estimates the time left, for the events; to be read by the caller meanwhile.
        of_grid: all cells of the grid, if `cells` are only some: exact weights stay that one of them needs.

    Raises:
        ValueError: an upstream cell is not among `cells`.
    """
    gpus = visible_gpus() if gpus is None else gpus
    n_jobs = jobs or default_jobs(grid.spec.threads_per_cell, gpus)
    notify = Reporting(
        left or TimeLeft(cells, {}, store, n_jobs, grid, gpus=len(gpus)), EventFile(store.root), on_event
    )
    exact = ExactWeights(of_grid or cells, store)
    schedule = _schedule_missing(exact.needed(cells), store, notify)
    workers: list[_Worker] = []
    places = places_of(n_jobs, gpus)
    try:
        while schedule.pending or any(worker.cell for worker in workers):
            _assign_cells(schedule, workers, places, grid, store, notify)
            _receive_results(schedule, workers, store, notify, exact)
    finally:
        for worker in workers:
            if worker.cell is not None:
                worker.process.kill()
            worker.stop()
        notify.close()
    return schedule.outcome()


def _schedule_missing(cells: Sequence[Cell], store: Store, notify: EventCallback) -> Schedule:
    """A schedule of the missing cells, and of those with damaged files, which are built again.

    Cells in the store are present, cells with a damaged record have failed.
    """
    schedule = Schedule.of(cells)
    damaged: dict[Cell, str] = {}
    for cell in list(schedule.pending):
        try:
            if not store.has(cell.address):
                continue
            schedule.set_present(cell)
            notify(CellEvent(cell.name, "present"))
        except DamagedFilesError as error:
            schedule.damaged[cell.name] = error.problem
            notify(CellEvent(cell.name, "damaged", message=error.problem))
            continue
        except StoreError as error:
            damaged[cell] = str(error)
        del schedule.pending[cell]
    known = {*cells}
    for cell in schedule.pending:
        if lacking := [above.name for above in cell.upstream.values() if above not in known]:
            raise ValueError(f"{cell.name}: it is built from {lacking[0]}, which is not among the cells to be built")
    for cell, problem in damaged.items():
        _record_result(schedule, cell, "failed", problem, 0.0, notify)
    return schedule


def _assign_cells(
    schedule: Schedule,
    workers: list[_Worker],
    places: Sequence[Place],
    grid: Grid,
    store: Store,
    notify: EventCallback,
) -> None:
    """Give every idle worker a cell that can be built now in its place; start workers in places that have none."""
    for worker in [worker for worker in workers if worker.cell is None]:
        cell = _next_cell(schedule, workers, worker.place, worker)
        if cell is not None and not _give(worker, cell, schedule, notify):
            workers.remove(worker)  # it was killed while idle; its place is free
            worker.stop()
    free = list(places)
    for worker in workers:
        free.remove(worker.place)
    for place in free:
        cell = _next_cell(schedule, workers, place)
        if cell is None:
            continue
        worker = _start_worker(grid, store, place)
        if _give(worker, cell, schedule, notify):
            workers.append(worker)
        else:
            worker.stop()


def _next_cell(schedule: Schedule, workers: list[_Worker], place: Place, own: _Worker | None = None) -> Cell | None:
    others = [worker.family for worker in workers if worker.family and worker is not own]
    return schedule.next_cell(own.family if own else "", others, place.takes)


def _give(worker: _Worker, cell: Cell, schedule: Schedule, notify: EventCallback) -> bool:
    """Have a worker build a cell; False if its process is gone."""
    try:
        worker.pipe.send(cell)
    except OSError:
        return False
    del schedule.pending[cell]
    worker.cell, worker.started, worker.family = cell, time.monotonic(), cell.family
    notify(CellEvent(cell.name, "started"))
    return True


def _start_worker(grid: Grid, store: Store, place: Place) -> _Worker:
    settings = _environment(grid.spec.threads_per_cell, place)
    before = dict(os.environ)
    context = mp.get_context(START_METHOD)
    ours, theirs = context.Pipe()
    try:  # a process reads these when it starts, before it imports anything
        os.environ.update(settings)
        process = context.Process(target=run_worker, args=(theirs, grid, store.root, dict(os.environ)), daemon=True)
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    theirs.close()
    return _Worker(process, ours, place)


def _environment(threads_per_cell: int, place: Place) -> dict[str, str]:
    """What a worker process has in its environment beside what the runner has."""
    threads = str(threads_per_cell)
    settings = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    return QUIET | settings | place.environment


def _receive_results(
    schedule: Schedule, workers: list[_Worker], store: Store, notify: EventCallback, exact: ExactWeights
) -> None:
    """Wait for messages of the workers and record results; a worker that died has failed its cell."""
    busy = {worker.pipe: worker for worker in workers if worker.cell is not None}
    if not busy:
        time.sleep(WAIT_SECONDS / 4)  # other processes build the cells that are left
        return
    for pipe in wait(list(busy), timeout=WAIT_SECONDS):
        worker = busy[pipe]  # type: ignore[index]
        cell = worker.cell
        assert cell is not None
        payload: Any
        try:
            state, payload = worker.pipe.recv()
        except (EOFError, OSError):
            workers.remove(worker)
            worker.stop()
            state = "failed"
            payload = f"its process ended with code {worker.process.exitcode} (was it out of memory, or killed?)"
            add_line(log_of(store.root, cell.address), payload)
        seconds = time.monotonic() - worker.started
        if state == "progress":
            step, steps, loss = payload
            notify(CellEvent(cell.name, "progress", seconds, "", step, steps, loss))
            continue
        worker.cell = None
        if state == "damaged":
            state, payload = _reopen(schedule, cell, payload, seconds, notify, exact)
        full = state == "full"
        if state in ("failed", "full"):
            state, payload = "failed", _with_log(payload, log_of(store.root, cell.address))
        blocked = _record_result(schedule, cell, state, payload, seconds, notify)
        if full:  # the next cell would fail as well
            schedule.give_up(cell)
        for other, reason in schedule.left_out():
            notify(CellEvent(other.name, "blocked", message=reason))
        if state in ("built", "present"):
            exact.note_built(cell)
        if state == "failed":
            store.note_failure(cell.address, payload, [other.address for other in blocked])


def _with_log(message: str, log: Path) -> str:
    """The message of a failure, with the log that holds the traceback."""
    return f"{message} (log: {log})" if log.exists() else message


def _reopen(
    schedule: Schedule,
    cell: Cell,
    damage: tuple[Address, str],
    seconds: float,
    notify: EventCallback,
    exact: ExactWeights,
) -> tuple[str, str]:
    """Have a damaged cell built again before `cell`; returns the state of `cell`, and a message.

    damage: the address of the damaged cell, and the problem.
    """
    address, problem = damage
    try:
        found = schedule.reopen(cell, address, problem, exact.needed_again)
    except StoreError as error:
        return "failed", str(error)
    if found is not None:
        notify(CellEvent(found.name, "damaged", seconds, problem))
    return "reopened", ""


def _record_result(
    schedule: Schedule, cell: Cell, state: str, message: str, seconds: float, notify: EventCallback
) -> list[Cell]:
    """Record in the schedule how the build of a cell ended; returns the cells that a failure blocks."""
    if state == "waiting":
        schedule.postpone(cell, WAIT_SECONDS)
        notify(CellEvent(cell.name, "waiting", seconds))
    elif state == "reopened":
        notify(CellEvent(cell.name, "waiting", seconds))
    elif state == "built":
        schedule.set_built(cell)
        notify(CellEvent(cell.name, "built", seconds))
    elif state == "present":  # another process has built it meanwhile
        schedule.set_present(cell)
        notify(CellEvent(cell.name, "present", seconds))
    else:
        blocked = schedule.set_failed(cell, message)
        notify(CellEvent(cell.name, "failed", seconds, message))
        for other in blocked:
            notify(CellEvent(other.name, "blocked", message=cell.name))
        return blocked
    return []
