"""A crew: the workers that build cells, wherever they are, and the places where they can be."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from mmgrid.grid.cells.cell import Cell
from mmgrid.runners.places import Place

Message = tuple[str, Any]
"""What a worker says; see `mmgrid.runners.worker.run_worker`. A crew adds two: ("lost", why) of a worker that is gone, with the cell
that it was building, and ("unfit", why) of one that has not begun it, since nothing can be built where it is."""


class Worker(Protocol):
    """A worker in its place, which builds one cell at a time."""

    def give(self, cell: Cell) -> bool:
        """Have it build a cell; False if it is gone."""
        ...

    def stop(self, *, at_once: bool) -> None:
        """End it. at_once: also in the middle of a cell."""
        ...


class Crew(Protocol):
    """Hires workers.

    attempts: how often a cell is tried whose worker is lost.
    """

    attempts: int

    def places(self) -> Sequence[Place]:
        """Where there can be a worker at the moment, one in each; equal places count."""
        ...

    def able(self, place: Place, cell: Cell) -> bool:
        """Whether the cell can ever be built in this place."""
        ...

    def has_room(self, place: Place, cell: Cell, worker: Any | None) -> bool:
        """Whether it can be built there now, beside what is built on the same machine. worker: the idle one there."""
        ...

    def hire(self, place: Place, cell: Cell, worker: Any | None) -> Any:
        """A worker in this place for a cell; the idle one that is there if it will do, else that one is stopped."""
        ...

    def messages(self, busy: Sequence[Any], seconds: float) -> Iterator[tuple[Any, Message]]:
        """Wait for what the busy workers say, up to so many seconds. A worker that is lost says no more."""
        ...
