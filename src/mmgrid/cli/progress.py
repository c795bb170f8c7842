"""Shows a run while it goes on: in a terminal one bar, with the cells in work below it; elsewhere lines, of which one
comes at least every minute, so that a log of Slurm tells a slow run from a dead one.

Times left tick: they are computed when they are drawn, not when something happens.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task
from rich.progress import Progress as Bars
from rich.text import Text

from mmgrid.cli import draw
from mmgrid.quantities import duration
from mmgrid.visible import visible

BEAT_SECONDS = 50.0
_BAR_WIDTH = 24


class Progress:
    """A view of a run, called with its events; as a context manager, it is shown until the end.

    Args:
        total: cells to build.
        left: time on the clock → seconds of work left, or None while that is unknown.
        beat_seconds: between two lines about the whole run, where the output is no terminal.
    """

    def __init__(
        self,
        total: int,
        left: Callable[[float], float | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self.total, self.done, self.failed = total, 0, 0
        self._left, self._clock, self._beat_seconds = left, clock, beat_seconds
        self._there: set[str] = set()
        self._running: dict[str, _Cell] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        columns = (SpinnerColumn(), _Name(), BarColumn(_BAR_WIDTH), _Count(), _Rest())
        self.bars = Bars(
            *columns, console=draw.console, transient=True, refresh_per_second=4, disable=not draw.console.is_terminal
        )
        self._whole = self.bars.add_task("", total=total, rest=self._rest_text)

    def __enter__(self) -> "Progress":
        if draw.console.is_terminal:
            self.bars.start()
        else:
            threading.Thread(target=self._beat, name="progress", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if not self.bars.disable:  # older versions of rich end a bar that they do not show with an empty line
            self.bars.stop()

    def __call__(self, event: Any) -> None:
        with self._lock:
            self._follow(event)
        self.bars.update(self._whole, completed=self.done, total=self.total)

    def status_line(self) -> str:
        """The state of the whole run in one line."""
        with self._lock:
            rest, now = self._rest_text(), self._clock()
            cells = [f"{name}{' ' if (text := cell.text(now)) else ''}{text}" for name, cell in self._running.items()]
            failed = f", {self.failed} failed" if self.failed else ""
        work = f"; in work: {', '.join(cells)}" if cells else ""
        return f"{self.done} of {self.total} cells{failed}{work}{f'; {rest}' if rest else ''}"

    def _follow(self, event: Any) -> None:
        if event.state == "started":
            self._running[event.cell] = _Cell(self.bars, event.cell, self._clock)
        elif event.state == "progress":
            if event.cell in self._running:
                self._running[event.cell].step(event)
        elif event.state in ("waiting", "lost"):
            self._forget(event.cell)
            if event.message:
                draw.say(("lost", "yellow"), f" {event.cell}: {event.message}; it is tried again")
        elif event.state == "damaged":
            self.total += event.cell in self._there  # it did not count as missing
            self._there.discard(event.cell)
            draw.say(("damaged", "red"), f" {event.message}; it is set aside and built again")
        elif event.state != "present" or event.cell in self._running:  # cells built before the run do not count
            self._forget(event.cell)
            self._there.add(event.cell)
            self.done += 1
            self.failed += event.state == "failed"
            self._say(event)
        else:
            self._there.add(event.cell)

    def _forget(self, name: str) -> None:
        cell = self._running.pop(name, None)
        if cell is not None:
            self.bars.remove_task(cell.task)

    def _rest_text(self) -> str:
        seconds = self._left(self._clock()) if self.done < self.total else None
        return "" if seconds is None else f"about {duration(seconds)} left"

    def _say(self, event: Any) -> None:
        count = (f"{self.done:>{len(str(self.total))}}/{self.total}", "dim")
        if event.state == "built":
            rest = "" if draw.console.is_terminal else self._rest_text()
            took = (f"{duration(event.seconds)}{f' · {rest}' if rest else ''}", "dim")
            draw.say(count, " ", ("built", "green"), f"   {event.cell}  ", took)
        elif event.state == "failed":
            draw.say(count, " ", ("failed", "red"), f"  {event.cell}: {event.message}")
        elif event.state == "present":
            draw.say(count, f" present {event.cell}, built by another process")

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_seconds):
            draw.say((f"{time.strftime('%H:%M:%S')} {self.status_line()}", "dim"))


class _Cell:
    """A cell in work, and its bar."""

    def __init__(self, bars: Bars, name: str, clock: Callable[[], float]) -> None:
        self._bars, self._clock = bars, clock
        self._began = self._stepped = clock()
        self._event: Any = None
        self.task = bars.add_task(name, total=None, rest=lambda: self.text(clock()))

    def step(self, event: Any) -> None:
        self._event, self._stepped = event, self._clock()
        self._bars.update(self.task, completed=event.step, total=event.steps)

    def text(self, now: float) -> str:
        """How far it is at `now`: step, loss and time left of a training, else the time that it has taken."""
        if self._event is None:
            return duration(now - self._began)
        event = self._event
        parts = [f"step {event.step}/{event.steps}"]
        if event.loss is not None:
            parts.append(f"loss {float(event.loss):.3f}")
        if event.rate:
            left = (event.steps - event.step) / event.rate - (now - self._stepped)
            parts.append(f"{duration(max(left, 0.0))} left")
        return "  ".join(parts)


class _Name(ProgressColumn):
    """The name of a cell, as text; the bar of the whole run has none."""

    def render(self, task: Task) -> Text:
        return Text(visible(task.description) or "all cells", style="" if task.description else "bold")


class _Count(ProgressColumn):
    """How many cells of the run have ended."""

    def render(self, task: Task) -> Text:
        return Text("" if task.description else f"{int(task.completed)}/{int(task.total or 0)}")


class _Rest(ProgressColumn):
    """What a row says of itself at this moment."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["rest"](), style="dim")
