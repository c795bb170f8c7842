"""The log of a cell: all that its worker process prints and logs while it builds the cell.

The file descriptors 1 and 2 are redirected, so prints of plug-ins and of libraries in C are in it as well, and the
traceback of a crash (`faulthandler`). Warnings and programming errors are also shown where the run was started.
"""

import faulthandler
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmgrid.visible import VisibleFormatter

_OUT, _ERR = 1, 2
LOG_ONLY = {"log_only": True}
"""Passed as `extra` with a log record that is for the log alone."""


class WorkerLog:
    """The logging of a worker process. Made once, before the process imports libraries that keep `sys.stderr`."""

    def __init__(self) -> None:
        terminal = logging.StreamHandler(_stream(os.dup(_ERR)))
        terminal.setLevel(logging.WARNING)
        terminal.setFormatter(VisibleFormatter())
        terminal.addFilter(lambda record: not getattr(record, "log_only", False))
        sys.stdout, sys.stderr = _stream(_OUT), _stream(_ERR)
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(terminal)
        logging.getLogger("mmgrid").setLevel(logging.DEBUG if os.environ.get("MMGRID_DEBUG") else logging.INFO)
        logging.captureWarnings(True)
        faulthandler.enable(_ERR)

    @contextmanager
    def into(self, log: Path) -> Iterator[None]:
        """Append all output to `log`. If it cannot be written, the output stays where it is: no cell fails for its log."""
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError:
            yield
            return
        before = [(os.dup(number), number) for number in (_OUT, _ERR)]
        for number in (_OUT, _ERR):
            os.dup2(descriptor, number)
        os.close(descriptor)
        logging.getLogger().addHandler(self._handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self._handler)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for kept, number in before:
                os.dup2(kept, number)
                os.close(kept)


class _Descriptor(io.FileIO):
    """A file descriptor to write to; what a full disk or a closed terminal does not take is lost, and no error."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def _stream(number: int) -> io.TextIOWrapper:
    """A text stream that writes to whatever the descriptor is at that moment, on Windows too."""
    raw = io.BufferedWriter(_Descriptor(number, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
