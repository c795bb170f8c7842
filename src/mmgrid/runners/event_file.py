"""The event file of a run, `logs/events-<time>.jsonl` in the store: one JSON object a line, for programs that watch.

Each line is written in one piece, so whenever a run ends, by a kill too, every line of its file is whole. A file that
cannot be written ends no run.
"""

import contextlib
import json
import logging
import math
import os
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from mmgrid.runners.events import CellEvent
from mmgrid.store.logs import logs_folder
from mmgrid.visible import visible_json

log = logging.getLogger(__name__)

EVENTS = {
    "started": "started",
    "progress": "step",
    "built": "done",
    "present": "done",
    "failed": "failed",
    "blocked": "blocked",
}


class Entries:
    """Turns the events of one run into objects of the file."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._again: dict[str, str] = {}

    def of(self, event: CellEvent) -> dict[str, Any] | None:
        """The object of an event; None for one that is not written.

        A cell that was in the store already has no events. One that is built or tried again says why when it is
        started; one that another process has built meanwhile says so when it is done.
        """
        message = event.message
        if event.state == "started":
            message = self._again.pop(event.cell, "")
            self._begun.add(event.cell)
        elif event.state == "damaged":
            self._again[event.cell] = f"built again: {event.message}"
        elif event.state == "lost":
            self._again[event.cell] = f"tried again: {event.message}"
        elif event.state == "present":
            message = "built by another process"
        if event.state not in EVENTS or (event.state == "present" and event.cell not in self._begun):
            return None
        trains = event.state == "progress"
        return {
            "time": event.time,
            "cell": event.cell,
            "event": EVENTS[event.state],
            "step": event.step if trains else None,
            "steps": event.steps if trains else None,
            "loss": _finite(event.loss),
            "rate": _rounded(event.rate),
            "seconds_left": _rounded(event.seconds_left),
            "message": message or None,
        }


class EventFile:
    """The file; it is made with the first event, so a run that builds nothing leaves none.

    root: of the store. path: None until the file is made.
    """

    def __init__(self, root: Path) -> None:
        self.path: Path | None = None
        self._folder, self._entries, self._descriptor, self._broken = logs_folder(root), Entries(), -1, False

    def write(self, event: CellEvent) -> None:
        """Append the event, if it is one that is written."""
        entry = self._entries.of(event)
        if entry is None or self._broken:
            return
        line = visible_json(json.dumps(entry, ensure_ascii=False, allow_nan=False)) + "\n"
        try:
            if self._descriptor < 0:
                self._open()
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._broken = True
            log.warning("%s: the events of this run are not written (%s)", self.path or self._folder, error.strerror)

    def close(self) -> None:
        """Close the file; nothing can be written then."""
        self._broken = True
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        """Make a file of a name that no other run has."""
        self._folder.mkdir(parents=True, exist_ok=True)
        begun = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        for number in count(1):
            path = self._folder / f"events-{begun}{'' if number == 1 else f'-{number}'}.jsonl"
            with contextlib.suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
                self._descriptor, self.path = os.open(path, flags, 0o644), path
                return


def _finite(value: Any) -> float | None:
    """A loss as a number; None for NaN and infinity, which JSON lacks."""
    return None if value is None or not math.isfinite(float(value)) else float(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")
