"""The worker process: receives cells through a pipe, builds them, and sends back the results."""

import errno
import functools
import gc
import logging
import os
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from mmgrid.files import DiskFull
from mmgrid.files.foreign import explains_itself, in_one_line
from mmgrid.grid.builders import build_cell
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.machine.freed_memory import release_freed
from mmgrid.machine.orphans import end_with_parent
from mmgrid.runners.cell_log import LOG_ONLY, WorkerLog
from mmgrid.store import DamagedFilesError, LockLostError, Store, StoreError, StoreGoneError
from mmgrid.store.format import check_there
from mmgrid.store.logs import log_of

logger = logging.getLogger(__name__)

TRAINED = ("backbone", "checkpoint")


def run_worker(pipe: Connection, grid: Grid, root: Path, environment: Mapping[str, str]) -> None:
    """Build cells until None is received or the other end of the pipe is closed.

    environment: that of the runner, whatever has started this process.

    Sends ("begun", "") when a cell has come, ("progress", (step, steps, loss)) while it is built, and then ("built" | "present" | "waiting", ""),
    ("failed", the error in one line), ("full", the error) where the disk of the store is full or gone, ("memory", the error) where
    there was too little memory, or ("damaged", (address, the problem in one line)) of an upstream cell, which was set
    aside.
    """
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the runner stops its workers
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # and when its terminal is closed
    end_with_parent()
    log = WorkerLog()
    store: Store | None = None
    while True:
        try:
            cell = pipe.recv()
        except (EOFError, OSError):
            return
        if cell is None:
            return
        if not _sent(pipe, ("begun", "")):
            return
        try:
            check_there(root)  # else a log would begin a folder in its place
            store = store or Store(root)
        except (StoreError, OSError) as error:
            answer = _failed(error), in_one_line(error)
        else:
            with log.into(log_of(store.root, cell.address)):
                answer = _build(pipe, cell, grid, store)
        if not _sent(pipe, answer):
            return
        if cell.kind in TRAINED:
            release_freed()  # else the next training adds its gigabytes to what the C library keeps of this one's


def _sent(pipe: Connection, message: tuple[str, object]) -> bool:
    """Send a message; False if the runner was killed."""
    try:
        pipe.send(message)
    except OSError:
        return False
    return True


def _build(pipe: Connection, cell: Cell, grid: Grid, store: Store) -> tuple[str, object]:
    """Build a cell; returns what is sent."""

    def progress(step: int, steps: int, loss: float | None) -> None:
        logger.info("step %d of %d%s", step, steps, "" if loss is None else f", loss {loss:.6g}")
        pipe.send(("progress", (step, steps, loss)))

    try:
        if cell.kind in TRAINED:
            _import_trainer()
        outcome = build_cell(cell, grid, store, progress)
    except DamagedFilesError as error:
        logger.error("%s was not built: %s", cell.name, error, extra=LOG_ONLY)
        return _set_aside(store, error)
    except LockLostError as error:  # another process builds the cell, so it has not failed
        logger.warning("%s failed here: %s This run does so by itself.", cell.name, error)
        return "waiting", ""
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a failure of any kind affects this cell only; a panic of polars is no Exception
        _log(error, cell.name)
        return _failed(error), in_one_line(error)
    if outcome == "built":
        logger.info("%s is built", cell.name)
    return outcome, ""


@functools.cache
def _import_trainer() -> None:
    """Import what trains; from now on the garbage collector passes over it, and over all modules that are here.

    The Trainer collects garbage at the end of each training; to look through all that modules made takes a second.
    """
    import mmgrid.training.fit  # noqa: F401

    gc.freeze()


def _set_aside(store: Store, error: DamagedFilesError) -> tuple[str, object]:
    try:
        store.set_aside(store.folder(error.address))
    except OSError as refused:
        return _failed(refused), f"{in_one_line(error)} ({in_one_line(refused)})"
    return "damaged", (error.address, error.problem)


def _failed(error: BaseException) -> str:
    if isinstance(error, DiskFull | StoreGoneError):
        return "full"
    return "memory" if _lacks_memory(error) else "failed"


def _lacks_memory(error: BaseException) -> bool:
    """Whether memory was lacking: for an object, a system call, a library that is loaded, or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return True
    if isinstance(error, ImportError):
        return any(words in str(error) for words in ("failed to map segment", "annot allocate memory"))
    return isinstance(error, OSError) and error.errno == errno.ENOMEM


def _log(error: BaseException, cell: str) -> None:
    """Log the traceback; show it, too, for a programming error, and for any error if MMGRID_DEBUG is set."""
    shown = not explains_itself(error) or bool(os.environ.get("MMGRID_DEBUG"))
    logger.error("%s failed", cell, exc_info=error, extra=None if shown else LOG_ONLY)
