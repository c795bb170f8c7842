"""Estimates the remaining time of a run, at any moment of it.

The cells that are left are laid out over the jobs as the runner does it, upstream first, each with its estimated cost;
the estimate is the end of the last one. So a long chain of cells counts for what it is, and not divided by the jobs.
What the run measures replaces what was estimated: the seconds of ended cells, and the pace of trainings that report
their steps.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.cells.computing import computes
from mmgrid.grid.costs.estimate import estimate, slowdown
from mmgrid.grid.costs.known import Known
from mmgrid.grid.costs.makespan import makespan
from mmgrid.grid.file.load import Grid
from mmgrid.machine.gpus import gpu_rate
from mmgrid.store import Record, Store, StoreError

OVERDUE = 0.2  # a cell that takes longer than estimated is expected to take this share of its time so far
LEAST_SHARE = 0.05  # of the steps, before the pace of a training counts
FRESH_SECONDS = 1.0  # the layout is made anew after so long


@dataclass
class _Running:
    """A cell in work. began, stepped: times on the caller's clock. first, step, steps: the first reported step, the
    newest, and all of them."""

    began: float
    first_at: float = 0.0
    stepped: float = 0.0
    first: int = 0
    step: int = 0
    steps: int = 0

    @property
    def pace(self) -> float | None:
        """Steps per second; None while it is unknown."""
        if self.step <= self.first or self.stepped <= self.first_at:
            return None
        return (self.step - self.first) / (self.stepped - self.first_at)

    def total(self) -> float | None:
        """The seconds from beginning to end by the pace; None while too little is done."""
        if self.pace is None or self.step < LEAST_SHARE * self.steps:
            return None
        return self.stepped - self.began + (self.steps - self.step) / self.pace


class TimeLeft:
    """The estimate. Every method takes `now`, in seconds on any one clock; threads may call them at the same time.

    Args:
        cells: of the run, upstream first.
        records: those of `cells` that are built.
        store: where records of cells that are built during the run are read.
        jobs: cells built at a time.
        gpus: how many GPUs build one of them each.
        grid: what it expects of domains, and where its models are.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        records: Mapping[Cell, Record],
        store: Store,
        jobs: int,
        grid: Grid | None = None,
        *,
        gpus: int = 0,
    ) -> None:
        self._cells = {cell.name: cell for cell in with_upstream(cells)}  # exact weights may be needed again
        self._records = {cell: record for cell, record in records.items() if cell.name in self._cells}
        self._size = Known(self._records, grid, guess=True)
        self._open = {cell: None for cell in cells if cell not in records}
        self._running: dict[Cell, _Running] = {}
        self._measured: dict[Cell, float] = {}
        self._store, self._jobs = store, max(1, jobs)
        self._gpus = min(gpus, self._jobs - 1)  # as the runner does it: one place is for what needs none
        self._gpu = gpu_rate() if gpus else None
        self._lock = threading.Lock()
        self._known: tuple[float, float | None] | None = None  # when it was laid out, and the seconds left then

    def begin(self, name: str, now: float) -> None:
        """The cell `name` is being built."""
        with self._lock:
            self._open[self._cells[name]] = None
            self._running[self._cells[name]] = _Running(now)
            self._known = None

    def step(self, name: str, step: int, steps: int, now: float) -> None:
        """Its training has done `step` of `steps`."""
        with self._lock:
            running = self._running.get(self._cells[name])
            if running is None:
                return
            if not running.steps:
                running.first, running.first_at = step, now
            running.step, running.steps, running.stepped = step, steps, now

    def rate(self, name: str) -> float | None:
        """Steps per second of a training that is running; None while it is unknown."""
        with self._lock:
            running = self._running.get(self._cells[name])
            return None if running is None else running.pace

    def end(self, name: str, now: float, *, built_here: bool = True) -> None:
        """The cell is built, or failed, or will not be built."""
        with self._lock:
            cell = self._cells[name]
            running = self._running.pop(cell, None)
            self._open.pop(cell, None)
            self._known = None
            with suppress(StoreError):  # a failed or damaged cell has no usable record
                if cell not in self._records:
                    self._records[cell] = self._store.record(cell.address)
                if running is not None and built_here:
                    self._measured[cell] = now - running.began

    def put_back(self, name: str) -> None:
        """The cell is no longer being built, and is still to be built."""
        with self._lock:
            self._running.pop(self._cells[name], None)
            self._known = None

    def reopen(self, name: str) -> None:
        """The cell was built, and is to be built again."""
        with self._lock:
            self._open[self._cells[name]] = None
            self._records.pop(self._cells[name], None)
            self._known = None

    def seconds(self, now: float) -> float | None:
        """The seconds left; None while no corpus is built, so that the amount of work is unknown."""
        with self._lock:
            if self._known is None or not 0 <= now - self._known[0] < FRESH_SECONDS:
                self._known = (now, self._laid_out(now))
            then, left = self._known
            return None if left is None else max(0.0, left - (now - then))

    def _laid_out(self, now: float) -> float | None:
        paces = {cell: total for cell, running in self._running.items() if (total := running.total()) is not None}
        beside = slowdown(min(self._jobs, len(self._open)))
        costs = estimate([*self._open], self._size, self._measured | paces, gpu=self._gpu, slowdown=beside)
        if any(cost is None for cost in costs.values()):
            return None
        left = {cell: cost or 0.0 for cell, cost in costs.items()}
        for cell, running in self._running.items():
            spent = now - running.began
            left[cell] = max(paces.get(cell, left[cell]) - spent, OVERDUE * spent if cell not in paces else 0.0)
        if not self._gpus:
            return makespan(left, {"job": self._jobs}, lambda _: "job", self._running)
        places = {"gpu": self._gpus, "core": self._jobs - self._gpus}
        return makespan(left, places, lambda cell: "gpu" if computes(cell) else "core", self._running)
