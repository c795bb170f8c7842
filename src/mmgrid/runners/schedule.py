"""The state of every cell of a run, and the choice of the cell to build next."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from mmgrid.grid.cells.cell import Cell
from mmgrid.runners.events import RunOutcome
from mmgrid.store import Address, StoreError


@dataclass
class Schedule:
    """Cells that are pending, in the store, failed or blocked. A cell that is being built is in none of these.

    pending: cells to build, upstream first (a dict used as an ordered set). done: cells in the store.
    built, present, failed, blocked, damaged: as in `RunOutcome`.
    wait_until: cell → time on the monotonic clock before which it is not tried, since another process builds it.
    given_up: the failed cell after which no other is begun.
    losses: cell → where its workers were lost, and why, one entry for each attempt.
    at_hand: machine → cells that it has built or read, of which it still may hold much in memory.
    """

    pending: dict[Cell, None]
    done: set[Cell] = field(default_factory=set)
    built: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    wait_until: dict[Cell, float] = field(default_factory=dict)
    given_up: Cell | None = None
    losses: dict[Cell, list[tuple[str, str]]] = field(default_factory=dict)
    at_hand: dict[str, set[Cell]] = field(default_factory=dict)

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> "Schedule":
        """All of `cells` pending, in this order (upstream first)."""
        return cls(dict.fromkeys(cells))

    def next_cell(
        self,
        family: str = "",
        other_families: Collection[str] = (),
        fits: Callable[[Cell], bool] = lambda _: True,
        host: str = "",
    ) -> Cell | None:
        """A cell that fits, and whose upstream is done; None if there is none at the moment.

        Cells of `family` come first, since the process has read what they share; cells of `other_families`, which
        other processes work on, come last. Among these, those come first of whose upstream `host` has most at hand.
        """
        if self.given_up is not None:
            return None
        now = time.monotonic()
        ready = (
            cell
            for cell in self.pending
            if self.wait_until.get(cell, 0) <= now
            and fits(cell)
            and all(above in self.done for above in cell.upstream.values())
        )

        near = self.at_hand.get(host, set())

        def rank(cell: Cell) -> tuple[int, float]:
            above = cell.upstream.values()
            far = sum(one not in near for one in above) / len(above) if host and above else 0.0
            if family and cell.family == family:
                return 0, far
            return 2 if cell.family in other_families else 1, far

        return min(ready, key=rank, default=None)

    def begin(self, cell: Cell, host: str = "") -> None:
        """The cell is being built on this machine."""
        del self.pending[cell]
        if host:
            self.at_hand.setdefault(host, set()).update((cell, *cell.upstream.values()))

    def lose(self, cell: Cell, host: str, why: str, attempts: int) -> tuple[str, str]:
        """The worker that built the cell is lost, or had too little memory for it.

        Returns:
            "lost", with what is said of it, if the cell may be tried again; else "failed", with all that happened.
        """
        losses = self.losses.setdefault(cell, [])
        losses.append((host, why))
        if len(losses) < attempts:
            return "lost", at_host(host, why)
        if attempts == 1:
            return "failed", why
        return "failed", f"tried {attempts} times: {'; '.join(at_host(*loss) for loss in losses)}"

    def lost_at(self, cell: Cell) -> set[str]:
        """The machines on which workers were lost that built the cell."""
        return {host for host, _ in self.losses.get(cell, ())}

    def set_built(self, cell: Cell) -> None:
        """This run has built the cell."""
        self.done.add(cell)
        self.built.append(cell.name)

    def set_present(self, cell: Cell) -> None:
        """The cell is in the store, and this run did not build it."""
        self.done.add(cell)
        self.present.append(cell.name)

    def set_failed(self, cell: Cell, message: str) -> list[Cell]:
        """The cell failed. Returns the pending cells that this blocks, all that depend on it."""
        self.failed[cell.name] = message
        lost: dict[Cell, None] = {cell: None}
        before = 0
        while len(lost) > before:  # a cell that was pending twice may come after those that depend on it
            before = len(lost)
            for other in list(self.pending):
                if any(above in lost for above in other.upstream.values()):
                    lost[other] = None
                    del self.pending[other]
                    self.blocked[other.name] = cell.name
        return list(lost)[1:]

    def give_up(self, cell: Cell) -> None:
        """From now on no cell is begun, since this one failed for a reason that any other would meet."""
        self.given_up = self.given_up or cell

    def left_out(self) -> list[tuple[Cell, str]]:
        """Once the run is given up: the pending cells, which are blocked, each with the failed cell that blocks it.

        To be asked after each result, since a cell that was begun before may be pending again.
        """
        if self.given_up is None:
            return []
        left = list(self.pending)
        self.pending.clear()
        self.blocked |= {other.name: self.given_up.name for other in left}
        return [(other, self.given_up.name) for other in left]

    def postpone(self, cell: Cell, seconds: float) -> None:
        """Another process builds the cell: it is pending again, and not tried for `seconds`."""
        self.wait_until[cell] = time.monotonic() + seconds
        self.pending[cell] = None

    def reopen(
        self, cell: Cell, address: Address, problem: str, removed: Callable[[Cell], Iterable[Cell]] = lambda _: ()
    ) -> Cell | None:
        """`cell`, and the done cell at `address` that it is built from and that was set aside, are pending again.

        Args:
            removed: the cells that were removed since a cell was built from them, upstream first. They are pending
                again, too.

        Returns:
            The cell at `address`; None if it is pending already.

        Raises:
            StoreError: this run has opened it before, or has failed to build what it is built from.
        """
        found = next((one for one in self.done if one.address == address), None)
        if found is not None and found.name in self.damaged:
            raise StoreError(f"{problem}, although this run has built it again; is the disk sound?")
        lacking = [] if found is None else [one for one in removed(found) if one not in self.pending]
        if broken := [one.name for one in lacking if one.name in self.failed or one.name in self.blocked]:
            raise StoreError(f"{problem}; it cannot be built again, since {broken[0]} is not")
        again = dict.fromkeys([cell] if found is None else [*lacking, found, cell])
        self.done.difference_update(lacking)
        self.pending = again | {one: None for one in self.pending if one not in again}
        if found is not None:
            self.done.discard(found)
            self.damaged[found.name] = problem
            for names in (self.present, self.built):
                names[:] = [name for name in names if name != found.name]
        return found

    def outcome(self) -> RunOutcome:
        """The outcome of the run so far."""
        return RunOutcome(tuple(self.built), tuple(self.present), self.failed, self.blocked, self.damaged)


def at_host(host: str, why: str) -> str:
    """What happened, and on which machine, if it has a name."""
    return f"on {host}: {why}" if host else why
