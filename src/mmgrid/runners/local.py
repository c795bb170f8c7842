"""Building cells side by side on one machine.

Each job is a process of its own that lives as long as the run: torch is imported once in each, its threads
are fixed before it starts, and a cell that brings its process down takes nothing else with it.
"""

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.runners.events import Event, Outcome
from mmgrid.runners.worker import work
from mmgrid.store import Store, StoreError

WAIT_SECONDS = 2.0  # before a cell that another process builds is looked at again

# Progress goes through the pipe, so other libraries draw no bars of their own.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}

Watch = Callable[[Event], None]


@dataclass
class _Worker:
    """A process that builds one cell after the other."""

    process: SpawnProcess
    pipe: Connection
    cell: Cell | None = None
    started: float = 0.0
    family: str = ""  # of the newest cell: what it read for that one serves the next of the family

    def stop(self) -> None:
        with suppress(OSError, ValueError):
            self.pipe.send(None)
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


@dataclass
class _Board:
    """Where each cell of a run stands."""

    open: dict[Cell, None]
    done: set[Cell] = field(default_factory=set)
    built: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    wait_until: dict[Cell, float] = field(default_factory=dict)

    def ready(self, family: str = "", others: Collection[str] = ()) -> Cell | None:
        """The next cell whose upstream is there and that nobody is known to be building.

        One of `family` if there is one; else rather one of none of the `others`, at which somebody is.
        """
        now = time.monotonic()
        ready = (
            cell
            for cell in self.open
            if self.wait_until.get(cell, 0) <= now and all(above in self.done for above in cell.upstream.values())
        )

        def reluctance(cell: Cell) -> int:
            if family and cell.family == family:
                return 0
            return 2 if cell.family in others else 1

        return min(ready, key=reluctance, default=None)

    def fail(self, cell: Cell, message: str) -> list[Cell]:
        """Note a failure; returns the cells that it blocks."""
        self.failed[cell.name] = message
        lost: dict[Cell, None] = {cell: None}
        for other in list(self.open):  # upstream comes first, so one pass reaches all
            if any(above in lost for above in other.upstream.values()):
                lost[other] = None
                del self.open[other]
                self.blocked[other.name] = cell.name
        return list(lost)[1:]


def run_local(
    cells: Sequence[Cell], grid: Grid, store: Store, *, jobs: int | None = None, watch: Watch | None = None
) -> Outcome:
    """Build what is missing of `cells` (upstream first, and all of it among them), `jobs` at a time.

    A failed cell, also one whose record in the store is damaged, does not stop the others; what depends on it
    is blocked. On an interruption all processes are stopped, and what was published stays.
    """
    tell = watch or (lambda event: None)
    board = _look_around(cells, store, tell)
    workers: list[_Worker] = []
    n_jobs = min(jobs or default_jobs(grid.spec.threads_per_cell), max(len(board.open), 1))
    try:
        while board.open or any(worker.cell for worker in workers):
            _hand_out(board, workers, n_jobs, grid, store, tell)
            _listen(board, workers, store, tell)
    finally:
        for worker in workers:
            if worker.cell is not None:
                worker.process.kill()
            worker.stop()
    return Outcome(tuple(board.built), tuple(board.present), board.failed, board.blocked)


def _look_around(cells: Sequence[Cell], store: Store, tell: Watch) -> _Board:
    """A board on which the cells that are there are done, and those that cannot be used have failed."""
    board = _Board(dict.fromkeys(cells))
    for cell in board.open:
        if lacking := [above.name for above in cell.upstream.values() if above not in board.open]:
            raise ValueError(f"{cell.name}: it is built from {lacking[0]}, which is not among the cells to be built")
    unusable: dict[Cell, str] = {}
    for cell in list(board.open):
        try:
            if not store.has(cell.address):
                continue
            board.done.add(cell)
            board.present.append(cell.name)
            tell(Event(cell.name, "present"))
        except StoreError as error:
            unusable[cell] = str(error)
        del board.open[cell]
    for cell, problem in unusable.items():
        _settle(board, cell, "failed", problem, 0.0, tell)
    return board


def default_jobs(threads_per_cell: int) -> int:
    """As many cells side by side as the cores allow."""
    return max(1, len(os.sched_getaffinity(0)) // threads_per_cell)


def _hand_out(board: _Board, workers: list[_Worker], n_jobs: int, grid: Grid, store: Store, tell: Watch) -> None:
    while board.open:
        idle = next((worker for worker in workers if worker.cell is None), None)
        if idle is None and len(workers) >= n_jobs:
            return
        family = idle.family if idle else ""
        cell = board.ready(family, [worker.family for worker in workers if worker.family and worker is not idle])
        if cell is None:
            return
        if idle is None:
            idle = _start_worker(grid, store)
            workers.append(idle)
        try:
            idle.pipe.send(cell)
        except OSError:  # it was killed while it had nothing to do
            workers.remove(idle)
            idle.stop()
            continue
        del board.open[cell]
        idle.cell, idle.started, idle.family = cell, time.monotonic(), cell.family
        tell(Event(cell.name, "started"))


def _start_worker(grid: Grid, store: Store) -> _Worker:
    threads = str(grid.spec.threads_per_cell)
    settings = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    before = dict(os.environ)
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    try:  # a process reads these when it starts, before it imports anything
        os.environ.update(QUIET | settings)
        process = context.Process(target=work, args=(theirs, grid, store.root), daemon=True)
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    theirs.close()
    return _Worker(process, ours)


def _listen(board: _Board, workers: list[_Worker], store: Store, tell: Watch) -> None:
    """Take in what the workers say, or see that one has died; the store is told of what failed."""
    busy = {worker.pipe: worker for worker in workers if worker.cell is not None}
    if not busy:
        time.sleep(WAIT_SECONDS / 4)  # all that is left is being built elsewhere
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
        if state == "progress":
            step, steps, loss = payload
            tell(Event(cell.name, "progress", time.monotonic() - worker.started, "", step, steps, loss))
            continue
        worker.cell = None
        blocked = _settle(board, cell, state, payload, time.monotonic() - worker.started, tell)
        if state == "failed":
            store.note_failure(cell.address, payload, [other.address for other in blocked])


def _settle(board: _Board, cell: Cell, state: str, payload: str, seconds: float, tell: Watch) -> list[Cell]:
    """Note on the board what became of a cell; returns what is blocked by it."""
    if state == "waiting":
        board.wait_until[cell] = time.monotonic() + WAIT_SECONDS
        board.open[cell] = None
        tell(Event(cell.name, "waiting", seconds))
    elif state == "built":
        board.done.add(cell)
        board.built.append(cell.name)
        tell(Event(cell.name, "built", seconds))
    elif state == "present":  # another process has built it meanwhile
        board.done.add(cell)
        board.present.append(cell.name)
        tell(Event(cell.name, "present", seconds))
    else:
        blocked = board.fail(cell, payload)
        tell(Event(cell.name, "failed", seconds, payload))
        for other in blocked:
            tell(Event(other.name, "blocked", message=cell.name))
        return blocked
    return []
