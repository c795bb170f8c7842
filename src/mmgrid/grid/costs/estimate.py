"""Estimates the cost of missing cells in seconds: from similar cells that were built, else from their arithmetic.

What a cell computes (`work_of`) takes some seconds at a device's rate. A machine may be slower or faster than that. So
what is known of other cells corrects it: the ratio of measured to expected seconds, of all cells, of those of the kind,
and of those of the kind and paradigm, each weighed by the seconds it is known from. Cells of the same likeness, once one
is built, need no rates at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.computing import computes
from mmgrid.grid.costs.cell_work import fixed_seconds, work_of
from mmgrid.grid.costs.known import Known
from mmgrid.machine.cores import available_cores
from mmgrid.machine.rates import TYPICAL_CORE, Rate

# In later phases histories are long and few of their items are targets.
LATER_PHASES = ("phase1", "phase2")
SIDE_BY_SIDE = 0.85  # the speed of a cell on a core beside others, which share caches and memory
WEIGHT_SECONDS = 10.0  # a ratio known from as many expected seconds counts as much as that of the wider group


def estimate(
    cells: Sequence[Cell],
    known: Known,
    measured: Mapping[Cell, float] | None = None,
    *,
    core: Rate = TYPICAL_CORE,
    gpu: Rate | None = None,
    corrected: bool = True,
    slowdown: float = 1.0,
) -> dict[Cell, float | None]:
    """Seconds for each of `cells` without a record; None if the amount of work is unknown.

    Args:
        known: what is known of domains and models, and the records of built cells.
        measured: seconds of cells, built or not, as this run measures them; they count in place of those in records of
            the same likeness.
        core: the rate of a core.
        gpu: the device that trains and evaluates, if it is no core.
        corrected: whether measured cells correct the estimate; not for a device on which they were not measured.
        slowdown: how much longer cells take than by the rates, where nothing is measured.
    """
    missing = [cell for cell in cells if cell not in known.records]
    costs = _Ratios(known, core, gpu, slowdown)
    if corrected and missing:
        costs.learn(measured or {})
    return {cell: costs.seconds(cell) for cell in missing}


def slowdown(jobs: int) -> float:
    """How much longer cells take by the rates, with so many built at a time on the cores of a machine."""
    return 1 / SIDE_BY_SIDE if jobs > 1 else 1.0


class _Ratios:
    """Measured seconds against those by the rates, for groups of cells."""

    def __init__(self, known: Known, core: Rate, gpu: Rate | None, slowdown: float) -> None:
        self._known, self._core, self._gpu, self._slowdown = known, core, gpu, slowdown
        self._cores = available_cores()
        self._groups: dict[tuple[Any, ...], tuple[float, float]] = {}  # group → seconds, expected seconds

    def learn(self, measured: Mapping[Cell, float]) -> None:
        now = {_likeness(cell) for cell in measured}
        before = {cell: record.seconds for cell, record in self._known.records.items() if cell not in measured}
        self._add(measured.items())
        self._add((cell, seconds) for cell, seconds in before.items() if _likeness(cell) not in now)

    def _add(self, measured: Iterable[tuple[Cell, float]]) -> None:
        for cell, seconds in measured:
            expected = self._by_rates(cell)
            if not expected or not seconds:
                continue
            for group in (*_groups(cell), _likeness(cell)):
                before = self._groups.get(group, (0.0, 0.0))
                self._groups[group] = (before[0] + seconds, before[1] + expected)

    def seconds(self, cell: Cell) -> float | None:
        expected = self._by_rates(cell)
        if expected is None:
            return None
        if (alike := _likeness(cell)) in self._groups:
            seconds, done = self._groups[alike]
            return expected * seconds / done
        ratio = self._slowdown
        for group in _groups(cell):  # from the widest to the narrowest
            seconds, done = self._groups.get(group, (0.0, 0.0))
            ratio = (seconds + WEIGHT_SECONDS * ratio) / (done + WEIGHT_SECONDS)
        return expected * ratio

    def _by_rates(self, cell: Cell) -> float | None:
        work = work_of(cell, self._known)
        if work is None:
            return None
        seconds = work.on(self._gpu if self._gpu and computes(cell) else self._core)
        return fixed_seconds(cell) + seconds / self._processes(cell)

    def _processes(self, cell: Cell) -> int:
        """How many work on a cell at the same time; what they exchange is not counted."""
        if cell in self._known.records:
            summary: Any = self._known.records[cell].summary
            return summary.get("processes", 1)
        return cell.processes if self._gpu else min(cell.processes, self._cores)


def _groups(cell: Cell) -> list[tuple[Any, ...]]:
    """The groups of a cell whose costs may deviate from the rates in the same way, from the widest to the narrowest."""
    return [(), (cell.kind,), (cell.kind, cell.recipe.get("paradigm"))]


def _likeness(cell: Cell) -> tuple[Any, ...]:
    """The properties on which the deviation depends; similar cells share them."""
    recipe = cell.recipe
    later = cell.kind == "checkpoint" and recipe.get("phase") in LATER_PHASES
    names = ("paradigm", "precision", "batch_size", "negatives", "text_tokens", "threads", "hidden_size", "layers")
    return (cell.kind, recipe.get("study"), later, "line" in recipe, *(recipe.get(name) for name in names))
