"""A process that builds cells, as the process that started it sees it."""

import multiprocessing as mp
import os
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.machine.held_signals import held_signals
from mmgrid.runners.worker import run_worker

START_METHOD = "spawn"  # a fork would copy the threads' locks without the threads

# Progress is reported through the pipe, so other libraries must not draw bars. Their warnings go into the cell's log.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "warning"}


class WorkerProcess:
    """The process; it lives until it is stopped, and imports torch once.

    Args:
        grid, root: the grid, and the root of its store.
        environment: what it has in its environment beside what this process has; among them its threads, which are fixed
            before it imports anything.

    Attributes:
        pipe: where its messages come from (see `run_worker`).
    """

    def __init__(self, grid: Grid, root: Path, environment: Mapping[str, str]) -> None:
        before = dict(os.environ)
        context = mp.get_context(START_METHOD)
        ours, theirs = context.Pipe()
        try:  # a process reads these when it starts
            os.environ.update(QUIET | _threads(grid.spec.threads_per_cell) | dict(environment))
            # No daemon, which could start no processes for a training. It ends with this one, or with its pipe.
            process = context.Process(target=run_worker, args=(theirs, grid, root, dict(os.environ)))
            with held_signals():  # a process that is stopped before it has its arguments prints a traceback
                process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()
        self.pipe: Connection = ours
        self._process: SpawnProcess = process

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def give(self, cell: Cell) -> bool:
        """Have it build a cell; False if it is gone."""
        try:
            self.pipe.send(cell)
        except OSError:
            return False
        return True

    def stop(self, *, at_once: bool) -> None:
        """End it. at_once: also in the middle of a cell."""
        if at_once:
            self._process.kill()
        with suppress(OSError, ValueError):
            self.pipe.send(None)
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.pipe.close()

    def ended(self) -> str:
        """Why it is gone, once its end of the pipe is closed."""
        self._process.join(timeout=5)
        return f"its process ended with code {self._process.exitcode} (was it out of memory, or killed?)"


def _threads(number: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(number), "MKL_NUM_THREADS": str(number), "TOKENIZERS_PARALLELISM": "false"}
