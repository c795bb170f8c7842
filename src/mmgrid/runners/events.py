"""What a runner reports: events while cells are built, and the outcome of the run.

The library reports through one callback and prints nothing; the command line draws the progress.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["started", "progress", "built", "present", "failed", "blocked", "waiting", "damaged", "lost"]
"""`present`: it was in the store already. `blocked`: an upstream cell failed. `waiting`: it cannot be built yet, since
another process builds it, or one that it is built from is built again. `damaged`: it is built again, since its files
differ from its record. `lost`: it is tried again, since its worker is gone."""


@dataclass(frozen=True)
class CellEvent:
    """A change in the state of one cell.

    cell: its name. seconds: time since it was started. message: the error of a failed cell; what is wrong with a
    damaged one; what became of the worker of a lost one; the name of the failed upstream cell of a blocked one. step,
    steps, loss: the progress of a training; rate: its steps per second, if it is known. time: when it happened (UTC,
    ISO 8601). seconds_left: of the whole run, if that is known.
    """

    cell: str
    state: State
    seconds: float = 0.0
    message: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    rate: float | None = None
    time: str = ""
    seconds_left: float | None = None


EventCallback = Callable[[CellEvent], None]


@dataclass(frozen=True)
class RunOutcome:
    """The result of a run: its cells, by name.

    built: built by this run. present: in the store already, or built by another process meanwhile. failed: name →
    error. blocked: name → the failed cell that it depends on. damaged: name → what was wrong with the files of a cell
    that this run set aside to build it again.
    """

    built: tuple[str, ...]
    present: tuple[str, ...]
    failed: dict[str, str]
    blocked: dict[str, str]
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every cell is in the store."""
        return not self.failed and not self.blocked
