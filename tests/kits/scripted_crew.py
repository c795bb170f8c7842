"""A crew whose workers build nothing and say what a test has planned, at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mmgrid.grid.cells.cell import Cell
from mmgrid.runners.crew import Message
from mmgrid.runners.places import Place


@dataclass
class ScriptedWorker:
    host: str
    cell: Cell | None = None

    def give(self, cell: Cell) -> bool:
        self.cell = cell
        return True

    def stop(self, *, at_once: bool) -> None:
        pass


class Scripted:
    """The crew.

    Args:
        script: cell, and the machine that it is given to → what the worker says of it.
        now: where workers can be; may be changed at any time.

    Attributes:
        given: what was given where, in order.
    """

    def __init__(self, script: Callable[[Cell, str], Message], now: list[Place], attempts: int = 1) -> None:
        self.script, self.now, self.attempts = script, now, attempts
        self.given: list[tuple[str, str]] = []

    def places(self) -> Sequence[Place]:
        return self.now

    def able(self, place: Place, cell: Cell) -> bool:
        return place.takes(cell)

    def has_room(self, place: Place, cell: Cell, worker: ScriptedWorker | None) -> bool:
        return True

    def hire(self, place: Place, cell: Cell, worker: ScriptedWorker | None) -> ScriptedWorker:
        self.given.append((cell.name, place.host))
        return worker or ScriptedWorker(place.host)

    def messages(self, busy: Sequence[ScriptedWorker], seconds: float) -> Iterator[tuple[ScriptedWorker, Message]]:
        for worker in busy:
            assert worker.cell is not None
            yield worker, self.script(worker.cell, worker.host)
