"""The process that builds cells: it takes them from a pipe, and says what became of each."""

import logging
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from mmgrid.grid.builders import build_cell
from mmgrid.grid.file.load import Grid
from mmgrid.store import Store

logger = logging.getLogger(__name__)


def work(pipe: Connection, grid: Grid, root: Path) -> None:
    """Build cells until None comes, or the other end is gone.

    Answers ("progress", (step, steps, loss)) while it builds, and in the end ("built" | "present" | "waiting",
    "") or ("failed", what went wrong, in one line).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides
    logging.captureWarnings(True)
    store = Store(root)
    while True:
        try:
            cell = pipe.recv()
        except (EOFError, OSError):
            return
        if cell is None:
            return
        try:
            answer = (build_cell(cell, grid, store, lambda *progress: pipe.send(("progress", progress))), "")
        except Exception as error:  # a cell may fail in any way; the others go on
            logger.debug("%s failed", cell.name, exc_info=True)
            answer = ("failed", _one_line(error))
        try:
            pipe.send(answer)
        except OSError:  # the runner was killed
            return


def _one_line(error: Exception) -> str:
    """What went wrong; errors of our own say it all, of others the type is needed to make sense of it."""
    ours = type(error).__module__.startswith("mmgrid.")
    text = " ".join(str(error).split())
    return text if ours and text else f"{type(error).__name__}: {text}"
