"""What a runner tells of: one callback, so that the library draws nothing and the command line draws all."""

from dataclasses import dataclass
from typing import Literal

State = Literal["started", "progress", "built", "present", "failed", "blocked", "waiting"]


@dataclass(frozen=True)
class Event:
    """Something happened to a cell."""

    cell: str
    state: State
    seconds: float = 0.0
    message: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of the cells of a run, by name."""

    built: tuple[str, ...]
    present: tuple[str, ...]
    failed: dict[str, str]  # name → what went wrong
    blocked: dict[str, str]  # name → the failed cell that it waits for

    @property
    def complete(self) -> bool:
        return not self.failed and not self.blocked
