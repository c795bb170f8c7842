"""The crew of a Ray cluster: one actor with a worker process in each place, one task of it for each cell.

An actor has the cores, the GPU and the memory that its cells need; Ray keeps others off them. It stays on its machine, so
the cells of a family meet in one process.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any

import mmgrid
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.costs.known import Known
from mmgrid.grid.costs.memory import memory_of
from mmgrid.grid.file.load import Grid
from mmgrid.runners.cluster.hand import Hand
from mmgrid.runners.cluster.machines import Machine, Machines
from mmgrid.runners.cluster.ray_module import imported_ray
from mmgrid.runners.crew import Message
from mmgrid.runners.places import Place, places_of
from mmgrid.store import Store, StoreError
from mmgrid.store.logs import logs_folder

log = logging.getLogger(__name__)

SILENT_SECONDS = 60.0  # an actor answers every few seconds
STARTING_SECONDS = 300.0
NEWS_SECONDS = 5.0
_STARTS = 3  # workers that are lost before they begin, after which their machine is unfit
_GONE = "its machine is gone or does not answer"
_OF_GONE = ("node has died", "node died", "node is dead", "temporarily unavailable", "node specified via NodeAffinity")


class RayCrew:
    """Workers on all machines of the cluster.

    Args:
        jobs: how many at most; None: as many as the machines have cores for.

    Attributes:
        idle_seconds: after so long without a step and without work of the processor, a worker hangs. One that waits for
            a download is not idle for so long.
    """

    attempts = 3
    idle_seconds = 600.0

    def __init__(self, grid: Grid, store: Store, machines: Machines, jobs: int | None = None) -> None:
        ray = imported_ray()
        self._grid, self._store, self._machines, self._jobs = grid, store, machines, jobs
        self._hand = ray.remote(Hand)
        self._shared = ray.put(grid)
        self._workers: list[RayWorker] = []
        self._needs: dict[Cell, float] = {}
        self._at: dict[str, Machine] = {}
        self._failed_starts: Counter[str] = Counter()
        self._mark = logs_folder(store.root) / f"machines-{secrets.token_hex(4)}"

    @contextmanager
    def at_work(self) -> Iterator["RayCrew"]:
        """As long as it is needed: a file in the store tells its machines that they see the same one."""
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()
        try:
            yield self
        finally:
            with suppress(OSError):
                self._mark.unlink()

    # ---- places --------------------------------------------------------------------------------------------------

    def places(self) -> Sequence[Place]:
        found = self._machines.now()
        self._at = {one.name: one for one in found}
        each = [places_on(one, self._grid.spec.threads_per_cell) for one in found]
        # By turns, so that fewer jobs than places use all machines.
        return [place for place in chain.from_iterable(zip_longest(*each)) if place is not None][: self._jobs]

    def able(self, place: Place, cell: Cell) -> bool:
        return place.takes(cell) and self._need(place, cell) <= self._at[place.host].memory

    def has_room(self, place: Place, cell: Cell, worker: "RayWorker | None") -> bool:
        taken = sum(one.memory for one in self._workers if one.place.host == place.host and one is not worker)
        return taken + self._need(place, cell) <= self._at[place.host].memory

    def _need(self, place: Place, cell: Cell) -> float:
        """The memory that a cell takes of its machine, in bytes; of the largest one, all at most. 0 if it is unknown."""
        if place.gpu:
            return 0.0
        if cell not in self._needs:
            with suppress(StoreError):
                sizes = {
                    above: self._store.record(above.address)
                    for above in cell.upstream.values()
                    if above.kind == "corpus"
                }
                found = memory_of(cell, Known(sizes, self._grid))
                self._needs[cell] = found.total if found else 0.0
        return min(self._needs.get(cell, 0.0), max(one.memory for one in self._at.values()))

    # ---- workers -------------------------------------------------------------------------------------------------

    def hire(self, place: Place, cell: Cell, worker: "RayWorker | None") -> "RayWorker":
        need = self._need(place, cell)
        if worker is not None:
            if worker.memory >= need:
                return worker
            worker.stop(at_once=True)
        machine = self._at[place.host]
        threads = self._grid.spec.threads_per_cell
        units = max(1, len(place.units))
        cores = units * machine.cores / len(places_on(machine, threads))
        stay = imported_ray().util.scheduling_strategies.NodeAffinitySchedulingStrategy(machine.node, soft=False)
        actor = self._hand.options(
            num_cpus=min(threads * units, cores if cores < 1 else int(cores)),
            num_gpus=len(place.gpus) if place.units else int(bool(place.gpu)),
            memory=int(need) or None,
            max_concurrency=2,
            scheduling_strategy=stay,
        ).remote(
            self._shared,
            self._store.root,
            self._mark,
            mmgrid.__version__,
            {} if place.gpu else place.environment,  # Ray says which GPUs they are
            self.idle_seconds,
        )
        hired = RayWorker(self, place, machine, actor, need)
        self._workers.append(hired)
        return hired

    def messages(self, busy: "Sequence[RayWorker]", seconds: float) -> "Iterator[tuple[RayWorker, Message]]":
        ray = imported_ray()
        awaited = [ref for worker in busy for ref in (worker.task, worker.asked) if ref is not None]
        ray.wait(awaited, num_returns=1, timeout=seconds)
        ready = {*ray.wait(awaited, num_returns=len(awaited), timeout=0)[0]}
        held = False
        for worker in busy:
            if worker.task in ready:
                yield from ((worker, one) for one in worker.last_news())
                message = worker.answer()
                if message[0] == "lost" and self._machines.silent:
                    held = True
                    continue
                yield worker, self._judged(worker, message)
            elif worker.asked in ready:
                yield from ((worker, one) for one in worker.hear())
            elif (silent := time.monotonic() - worker.heard) > (SILENT_SECONDS if worker.ready else STARTING_SECONDS):
                yield worker, self._judged(worker, ("lost", f"nothing was heard of it for {silent:.0f} s"))
        if held:
            # Without a head all workers are lost, which is no fault of their cells: soon it is back, or the run ends.
            time.sleep(seconds)

    def _judged(self, worker: "RayWorker", message: Message) -> Message:
        """The message; a worker that was lost before it began is unfit, and so is a machine where that happens often."""
        state, why = message
        if state == "unfit":
            self._machines.set_unfit(worker.machine, why)
        elif state == "lost" and not worker.ready:
            self._failed_starts[worker.machine.node] += why != _GONE
            if self._failed_starts[worker.machine.node] >= _STARTS:
                self._machines.set_unfit(worker.machine, f"workers do not start: {why}")
            return "unfit", why
        return message

    def let_go(self, worker: "RayWorker") -> None:
        """The worker's memory is free again."""
        with suppress(ValueError):
            self._workers.remove(worker)

    @property
    def headless(self) -> bool:
        """Whether nothing can be asked of the cluster."""
        return self._machines.silent


class RayWorker:
    """An actor in its place.

    memory: bytes that are kept for it. task: that of its cell. asked: the news that it was asked for. heard: when it last
    gave some, on the monotonic clock. ready: whether its process has ever begun a cell.
    """

    def __init__(self, crew: RayCrew, place: Place, machine: Machine, actor: Any, memory: float) -> None:
        self.place, self.machine, self.memory = place, machine, memory
        self._crew, self._actor = crew, actor
        self.task: Any = None
        self.asked: Any = None
        self.heard, self.ready = time.monotonic(), False

    def give(self, cell: Cell) -> bool:
        self.heard = time.monotonic()
        self.task = self._actor.build.options(name=cell.name).remote(cell)
        self._ask()
        return True

    def hear(self) -> list[Message]:
        """The news that have come; asks for more, unless it is gone or its cell has ended."""
        ray = imported_ray()
        try:
            found, ended = ray.get(self.asked)
        except ray.exceptions.RayError:  # its task tells why
            self.asked = None
            return []
        self.heard, self.ready, self.asked = time.monotonic(), self.ready or bool(found), None
        if not ended:
            self._ask()
        return found

    def last_news(self) -> list[Message]:
        """What it has said by the end of its cell."""
        found: list[Message] = []
        while self.asked is not None:
            found += self.hear()
        return found

    def answer(self) -> Message:
        """What became of its cell."""
        ray = imported_ray()
        try:
            return ray.get(self.task)
        except ray.exceptions.RayError as error:
            return "lost", _why(error)

    def stop(self, *, at_once: bool) -> None:
        ray = imported_ray()
        self._crew.let_go(self)
        if not self._crew.headless:
            with suppress(Exception):  # of an actor that is gone already; Ray raises various
                ray.kill(self._actor)

    def _ask(self) -> None:
        self.asked = self._actor.news.remote(NEWS_SECONDS)


def places_on(machine: Machine, threads: int) -> list[Place]:
    """The places on one machine: one for each GPU, others beside them by the number of cores."""
    if not machine.cores:
        return []
    gpus = [str(number) for number in range(machine.gpus)]
    jobs = max(1, machine.cores // threads)
    return [replace(place, host=machine.name) for place in places_of(max(jobs, len(gpus) + 1) if gpus else jobs, gpus)]


def _why(error: Exception) -> str:
    """Why Ray has lost an actor, in one line."""
    text = str(error)
    if isinstance(error, imported_ray().exceptions.OutOfMemoryError) or "memory monitor" in text or "OOM" in text:
        return "Ray has killed its process, since the machine was out of memory"
    if any(words in text for words in _OF_GONE):
        return _GONE
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "exit" in line.lower()] or lines
    return f"its process is gone ({' '.join(told)[:300]})"
