"""The actor that stands for a worker process on a machine of the cluster: it starts the process, and passes on what that
one says.

The process is that of the local runner, so a cell is built in the same way wherever it is: with the same environment,
threads and log.
"""

import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmgrid
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.runners.cluster.life import SignsOfLife
from mmgrid.runners.crew import Message
from mmgrid.runners.process import WorkerProcess

LOOK_SECONDS = 2.0


class Hand:
    """The actor. `build` and `news` are called side by side.

    Args:
        grid, root: the grid, and the root of its store.
        mark: a file in the store that the runner has just made.
        version: of the runner's mmgrid.
        environment: of the process, beside what this machine has in its own.
        idle_seconds: after so long without a step and without work of the processor, the process hangs.
    """

    def __init__(
        self, grid: Grid, root: Path, mark: Path, version: str, environment: Mapping[str, str], idle_seconds: float
    ) -> None:
        self._idle_seconds = idle_seconds
        self._news: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._problem = _problem(root, mark, version)
        self._process: WorkerProcess | None = None
        if not self._problem:
            # A new process runs the file of the main module again, and Ray's is of no use to it.
            vars(sys.modules["__main__"]).pop("__file__", None)
            self._process = WorkerProcess(grid, root, environment)

    def build(self, cell: Cell) -> Message:
        """Build a cell; returns what a worker says of it at last, and what a crew adds."""
        try:
            return self._build(cell)
        finally:
            self._news.put(None)

    def news(self, seconds: float) -> tuple[list[Message], bool]:
        """What was said since the last call, waited for up to so many seconds; and whether the cell has ended."""
        found: list[Any] = []  # None at its end
        try:
            found.append(self._news.get(timeout=seconds))
            while found[-1] is not None:
                found.append(self._news.get_nowait())
        except queue.Empty:
            return found, False
        return found[:-1], True

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop(at_once=True)

    def _build(self, cell: Cell) -> Message:
        if self._process is None:
            return "unfit", self._problem
        pipe = self._process.pipe
        if not self._process.give(cell):
            return "lost", self._process.ended()
        life = SignsOfLife(self._process.pid)
        while True:
            if not pipe.poll(LOOK_SECONDS):
                if life.idle_seconds() > self._idle_seconds:
                    threading.Thread(target=self.stop, daemon=True).start()  # one that is stopped dies slowly
                    return "lost", f"its process did nothing for {self._idle_seconds:.0f} s, so it was killed"
                continue
            try:
                state, payload = pipe.recv()
            except (EOFError, OSError):
                return "lost", self._process.ended()
            if state not in ("begun", "progress"):
                return state, payload
            life.renew()
            self._news.put((state, payload))


def _problem(root: Path, mark: Path, version: str) -> str:
    """Why nothing can be built here; empty if something can."""
    if not mark.exists():
        return f"it does not see the store {root}; mount the shared folder under the same path on every machine"
    if mmgrid.__version__ != version:
        return f"it has mmgrid {mmgrid.__version__} instead of {version}; install the same version everywhere"
    return ""
