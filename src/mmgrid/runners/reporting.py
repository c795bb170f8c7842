"""Where the events of a run go: each gets its time and the time left, is written down, and passed to the caller."""

import time
from dataclasses import replace

from mmgrid.grid.standing.time_left import TimeLeft
from mmgrid.machine.clock import utc_now
from mmgrid.runners.event_file import EventFile
from mmgrid.runners.events import CellEvent, EventCallback


class Reporting:
    """Called with each event of a run."""

    def __init__(self, left: TimeLeft, file: EventFile, on_event: EventCallback | None) -> None:
        self._left, self._file, self._on_event = left, file, on_event
        self._begun: set[str] = set()

    def __call__(self, event: CellEvent) -> None:
        now = time.monotonic()
        self._follow(event, now)
        event = replace(event, time=utc_now())
        if event.state == "progress":
            event = replace(event, rate=self._left.rate(event.cell))
        if self._begun:  # before, cells are only looked at
            event = replace(event, seconds_left=self._left.seconds(now))
        self._file.write(event)
        if self._on_event is not None:
            self._on_event(event)

    def close(self) -> None:
        """Close the event file."""
        self._file.close()

    def _follow(self, event: CellEvent, now: float) -> None:
        name = event.cell
        if event.state == "started":
            self._begun.add(name)
            self._left.begin(name, now)
        elif event.state == "progress":
            self._left.step(name, event.step, event.steps, now)
        elif event.state in ("waiting", "lost"):
            self._left.put_back(name)
        elif event.state == "damaged":
            self._left.reopen(name)
        else:
            self._left.end(name, now, built_here=event.state == "built")
