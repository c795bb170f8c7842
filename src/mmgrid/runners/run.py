"""A run: missing cells are given to the workers of a crew until none is left, and what becomes of them is recorded."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.runners.crew import Crew, Worker
from mmgrid.runners.event_file import EventFile
from mmgrid.runners.events import CellEvent, EventCallback, RunOutcome
from mmgrid.runners.exact_weights import ExactWeights
from mmgrid.runners.places import Place, together
from mmgrid.runners.reporting import Reporting
from mmgrid.runners.schedule import Schedule, at_host
from mmgrid.store import Address, DamagedFilesError, Store, StoreError
from mmgrid.store.logs import add_line, log_of

WAIT_SECONDS = 2.0  # before a cell that another process builds is tried again


def run_cells(
    cells: Sequence[Cell],
    store: Store,
    crew: Crew,
    left: TimeLeft,
    *,
    on_event: EventCallback | None = None,
    of_grid: Sequence[Cell] | None = None,
) -> RunOutcome:
    """Build those of `cells` that are missing in the store.

    A cell that fails, or has a damaged record in the store, does not stop the others; only cells that depend on it are
    blocked. A cell with damaged files is set aside and built again. One whose worker is lost is tried again as often as
    the crew says, on another machine if there is one. Once the disk of the store is full, no cell is begun. On an
    interruption all workers are stopped, and published cells stay.

    Args:
        cells: upstream first; the upstream of every cell must be among them, except exact weights that none needs.
        left: estimates the time left, for the events; to be read by the caller meanwhile.
        on_event: called for every change in the state of a cell.
        of_grid: all cells of the grid, if `cells` are only some: exact weights stay that one of them needs.

    Raises:
        ValueError: an upstream cell is not among `cells`.
    """
    notify = Reporting(left, EventFile(store.root), on_event)
    try:
        return Run(cells, store, crew, notify, ExactWeights(of_grid or cells, store)).finish()
    finally:
        notify.close()


@dataclass
class _Post:
    """A worker in its place, and the cell that it builds at the moment.

    family: that of its newest cell; what the process has read for that cell serves the next one of the family.
    """

    place: Place
    worker: Worker
    cell: Cell | None = None
    started: float = 0.0
    family: str = ""


class Run:
    """The cells of one run and the workers that build them.

    schedule: the states of the cells.
    """

    def __init__(
        self, cells: Sequence[Cell], store: Store, crew: Crew, notify: EventCallback, exact: ExactWeights
    ) -> None:
        self._store, self._crew, self._notify, self._exact = store, crew, notify, exact
        self._posts: list[_Post] = []
        self.schedule = Schedule.of(exact.needed(cells))
        self._look_at_store()

    def finish(self) -> RunOutcome:
        """Build until nothing is left, and stop the workers."""
        try:
            while self.schedule.pending or self._busy():
                self._assign_cells()
                self._receive()
        finally:
            for post in self._posts:
                post.worker.stop(at_once=post.cell is not None)
        return self.schedule.outcome()

    def _busy(self) -> list[_Post]:
        return [post for post in self._posts if post.cell is not None]

    def _look_at_store(self) -> None:
        """Cells in the store are present; those with damaged files are built again; those with a damaged record have failed."""
        schedule = self.schedule
        damaged: dict[Cell, str] = {}
        for cell in list(schedule.pending):
            try:
                if not self._store.has(cell.address):
                    continue
                schedule.set_present(cell)
                self._notify(CellEvent(cell.name, "present"))
            except DamagedFilesError as error:
                schedule.damaged[cell.name] = error.problem
                self._notify(CellEvent(cell.name, "damaged", message=error.problem))
                continue
            except StoreError as error:
                damaged[cell] = str(error)
            del schedule.pending[cell]
        known = schedule.done | schedule.pending.keys() | damaged.keys()
        for cell in schedule.pending:
            if lacking := [above.name for above in cell.upstream.values() if above not in known]:
                raise ValueError(
                    f"{cell.name}: it is built from {lacking[0]}, which is not among the cells to be built"
                )
        for cell, problem in damaged.items():
            self._end(cell, "failed", problem, 0.0)

    # ---- giving --------------------------------------------------------------------------------------------------

    def _assign_cells(self) -> None:
        """Give every idle worker a cell that can be built now in its place; hire workers for places that have none."""
        places = list(self._crew.places())
        kept = self._assign_together(places)
        hosts = {place.host for place in places}
        for post in [post for post in self._posts if post.cell is None and post.place.host in hosts]:
            if post.place in kept:
                continue
            cell = self._next_cell(post.place, places, post)
            if cell is not None:
                self._posts.remove(post)
                self._give(cell, post.place, post.worker)
        for place in _without(places, self._posts):
            if place in kept:
                continue
            cell = self._next_cell(place, places)
            if cell is not None:
                self._give(cell, place)

    def _assign_together(self, places: Sequence[Place]) -> list[Place]:
        """Begin cells of several processes; returns the free places that are kept until there are enough for the next."""
        for post in [post for post in self._posts if post.cell is None and post.place.units]:
            self._dismiss(post)
        while (cell := self.schedule.next_cell(fits=lambda one: one.processes > 1)) is not None:
            if together(cell, places, places) is None:
                self._refuse(cell, places)
                continue
            free = _without(places, self._busy())
            place = together(cell, free, places)
            if place is None:
                return [one for one in free if one.suits(cell)]
            for unit in place.units:
                for post in [post for post in self._posts if post.cell is None and post.place == unit][:1]:
                    self._dismiss(post)
            self._give(cell, place)
            if cell in self.schedule.pending:  # its worker was gone at once
                break
        return []

    def _dismiss(self, post: _Post) -> None:
        """Stop an idle worker, which leaves what it held of a GPU's memory."""
        self._posts.remove(post)
        post.worker.stop(at_once=False)

    def _refuse(self, cell: Cell, places: Sequence[Place]) -> None:
        """The cell fails, since no machine has a GPU for each of its processes."""
        gpus = Counter(place.host for place in places for _ in place.gpus)
        problem = (
            f"processes = {cell.processes} needs as many GPUs of one machine, and this run has "
            f"{max(gpus.values(), default=0)}; set processes to that or less, which gives the same results"
        )
        del self.schedule.pending[cell]
        blocked = self._end(cell, "failed", problem, 0.0)
        self._store.note_failure(cell.address, problem, [other.address for other in blocked])

    def _next_cell(self, place: Place, places: Sequence[Place], own: _Post | None = None) -> Cell | None:
        others = [post.family for post in self._posts if post.family and post is not own]
        idle = own.worker if own else None

        def fits(cell: Cell) -> bool:
            if not self._crew.able(place, cell) or not self._crew.has_room(place, cell, idle):
                return False
            lost_at = self.schedule.lost_at(cell)
            return place.host not in lost_at or not any(
                other.host not in lost_at and self._crew.able(other, cell) for other in places
            )

        return self.schedule.next_cell(own.family if own else "", others, fits, place.host)

    def _give(self, cell: Cell, place: Place, idle: Worker | None = None) -> None:
        """Have the idle worker of a place, or a new one, build a cell. The place of one that is gone is free again."""
        worker = self._crew.hire(place, cell, idle)
        if not worker.give(cell):
            worker.stop(at_once=True)
            return
        self.schedule.begin(cell, place.host)
        self._posts.append(_Post(place, worker, cell, time.monotonic(), cell.family))
        self._notify(CellEvent(cell.name, "started"))

    # ---- receiving -----------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Wait for messages of the workers, and record what they say."""
        busy = self._busy()
        if not busy:
            time.sleep(WAIT_SECONDS / 4)  # other processes build the cells that are left
            return
        for worker, (state, payload) in self._crew.messages([post.worker for post in busy], WAIT_SECONDS):
            self._take(next(post for post in busy if post.worker is worker), state, payload)

    def _take(self, post: _Post, state: str, payload: Any) -> None:
        """Record what a worker says of its cell."""
        cell, seconds = post.cell, time.monotonic() - post.started
        assert cell is not None
        if state == "begun":
            return
        if state == "progress":
            step, steps, loss = payload
            self._notify(CellEvent(cell.name, "progress", seconds, "", step, steps, loss))
            return
        post.cell = None
        log = log_of(self._store.root, cell.address)
        if state in ("lost", "unfit"):
            self._posts.remove(post)
            post.worker.stop(at_once=True)
        if state in ("lost", "memory"):
            if state == "lost":
                add_line(log, payload)
            state, payload = self.schedule.lose(cell, post.place.host, payload, self._crew.attempts)
        elif state == "unfit":
            state, payload = "lost", at_host(post.place.host, payload)
        elif state == "damaged":
            state, payload = self._reopen(cell, payload, seconds)
        full = state == "full"
        if state in ("failed", "full"):
            state, payload = "failed", _with_log(payload, log)
        blocked = self._end(cell, state, payload, seconds)
        if full:  # the next cell would fail as well
            self.schedule.give_up(cell)
        for other, reason in self.schedule.left_out():
            self._notify(CellEvent(other.name, "blocked", message=reason))
        if state in ("built", "present"):
            self._exact.note_built(cell)
        if state == "failed":
            self._store.note_failure(cell.address, payload, [other.address for other in blocked])

    def _reopen(self, cell: Cell, damage: tuple[Address, str], seconds: float) -> tuple[str, str]:
        """Have a damaged cell built again before `cell`; returns the state of `cell`, and a message.

        damage: the address of the damaged cell, and the problem.
        """
        address, problem = damage
        try:
            found = self.schedule.reopen(cell, address, problem, self._exact.needed_again)
        except StoreError as error:
            return "failed", str(error)
        if found is not None:
            self._notify(CellEvent(found.name, "damaged", seconds, problem))
        return "reopened", ""

    def _end(self, cell: Cell, state: str, message: str, seconds: float) -> list[Cell]:
        """Record how the build of a cell ended; returns the cells that a failure blocks."""
        schedule = self.schedule
        if state == "waiting":
            schedule.postpone(cell, WAIT_SECONDS)
            self._notify(CellEvent(cell.name, "waiting", seconds))
        elif state == "reopened":
            self._notify(CellEvent(cell.name, "waiting", seconds))
        elif state == "lost":
            schedule.postpone(cell, 0.0)
            self._notify(CellEvent(cell.name, "lost", seconds, message))
        elif state == "built":
            schedule.set_built(cell)
            self._notify(CellEvent(cell.name, "built", seconds))
        elif state == "present":  # another process has built it meanwhile
            schedule.set_present(cell)
            self._notify(CellEvent(cell.name, "present", seconds))
        else:
            blocked = schedule.set_failed(cell, message)
            self._notify(CellEvent(cell.name, "failed", seconds, message))
            for other in blocked:
                self._notify(CellEvent(other.name, "blocked", message=cell.name))
            return blocked
        return []


def _without(places: Sequence[Place], posts: Sequence[_Post]) -> list[Place]:
    """The places but those of these posts."""
    free = list(places)
    for unit in (unit for post in posts for unit in post.place.units or (post.place,)):
        with suppress(ValueError):  # of a machine that is gone
            free.remove(unit)
    return free


def _with_log(message: str, log: Path) -> str:
    """The message of a failure, with the log that holds the traceback."""
    return f"{message} (log: {log})" if log.exists() else message
