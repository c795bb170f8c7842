"""Estimates the cost of missing cells in seconds: from similar cells that were built, else from measured rates.

The rates were measured with tiny models on one machine; another machine or another model may be many times slower or
faster. So what is known of other cells corrects them: the ratio of measured to expected seconds, of all cells, of those
of the kind, and of those of the kind and paradigm, each weighed by the seconds it is known from. Cells of the same
likeness, once one is built, need no rates at all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.evaluations import BASELINE
from mmgrid.grid.cells.stored import EXACT
from mmgrid.paradigms import PARADIGMS
from mmgrid.store import Record

# Seconds per evaluated user and per token on one core of the development machine, with tiny models. The spec of a
# paradigm declares its own rates.
SECONDS_PER_BASELINE_USER = 5e-5
SECONDS_PER_TOKEN = 7e-5
# In later phases histories are long and few of their items are targets, so an interaction costs more.
LATER_PHASES, LATER_FACTOR = ("phase1", "phase2"), 3.0
LINE_FACTOR = 0.6  # for a point on a line, since all points share what is read and merged
FIXED = {
    "corpus": 1.0,
    "backbone": 3.0,
    "base": 2.0,
    "vectors": 1.0,
    "codes": 1.0,
    "checkpoint": 2.0,
    "merge": 1.0,
    "family": 2.0,
    "learned": 60.0,
    "evaluation": 0.3,
    "study": 1.5,
}
WEIGHT_SECONDS = 10.0  # a ratio known from as many expected seconds counts as much as that of the wider group


def estimate(
    cells: Sequence[Cell],
    records: Mapping[Cell, Record],
    measured: Mapping[Cell, float] | None = None,
    *,
    slowdown: float = 1.0,
    guess: bool = False,
) -> dict[Cell, float | None]:
    """Seconds for each of `cells` without a record; None if the amount of work is unknown: its corpus is not built.

    Args:
        records: of the built cells.
        measured: seconds of cells, built or not, as this run measures them; they count in place of those in records of
            the same likeness.
        slowdown: how much longer cells take than by the rates, where nothing is measured.
        guess: take the mean of the built corpora for one that is not built.
    """
    work_of = _Work(records, guess)
    costs = _Ratios(records, measured or {}, work_of, slowdown)
    return {cell: costs.seconds(cell) for cell in cells if cell not in records}


class _Ratios:
    """Measured seconds against work and against the seconds by the rates, for groups of cells."""

    def __init__(
        self,
        records: Mapping[Cell, Record],
        measured: Mapping[Cell, float],
        work_of: Callable[[Cell], float | None],
        slowdown: float,
    ) -> None:
        self._work_of, self._slowdown = work_of, slowdown
        self._alike: dict[tuple[Any, ...], tuple[float, float]] = {}  # likeness → seconds, work
        self._groups: dict[tuple[Any, ...], tuple[float, float]] = {}  # group → seconds, expected seconds
        now = {_likeness(cell) for cell in measured}
        before = {cell: record.seconds for cell, record in records.items() if cell not in measured}
        self._add(measured.items())
        self._add((cell, seconds) for cell, seconds in before.items() if _likeness(cell) not in now)

    def _add(self, measured: Iterable[tuple[Cell, float]]) -> None:
        for cell, seconds in measured:
            work = self._work_of(cell)
            if not work or not seconds:
                continue
            _count(self._alike, _likeness(cell), seconds, work)
            for group in _groups(cell):
                _count(self._groups, group, seconds, _by_rates(cell, work))

    def seconds(self, cell: Cell) -> float | None:
        work = self._work_of(cell)
        if work is None:
            return None
        if _likeness(cell) in self._alike:
            seconds, done = self._alike[_likeness(cell)]
            return work * seconds / done
        ratio = self._slowdown
        for group in _groups(cell):  # from the widest to the narrowest
            seconds, expected = self._groups.get(group, (0.0, 0.0))
            ratio = (seconds + WEIGHT_SECONDS * ratio) / (expected + WEIGHT_SECONDS)
        return _by_rates(cell, work) * ratio


def _count(sums: dict[tuple[Any, ...], tuple[float, float]], key: tuple[Any, ...], one: float, other: float) -> None:
    before = sums.get(key, (0.0, 0.0))
    sums[key] = (before[0] + one, before[1] + other)


def _groups(cell: Cell) -> list[tuple[Any, ...]]:
    """The groups of a cell whose costs may deviate from the rates in the same way, from the widest to the narrowest."""
    return [(), (cell.kind,), (cell.kind, cell.recipe.get("paradigm"))]


def _is_later(cell: Cell) -> bool:
    return cell.kind == "checkpoint" and cell.recipe.get("phase") in LATER_PHASES


def _by_rates(cell: Cell, work: float) -> float:
    return FIXED[cell.kind] + work * _rate(cell)


def _rate(cell: Cell) -> float:
    """Seconds per unit of work if no similar cell is built yet."""
    if cell.kind == "backbone":
        return SECONDS_PER_TOKEN
    if cell.kind not in ("checkpoint", "evaluation"):
        return 0.0
    paradigm = cell.recipe["paradigm"]
    if paradigm == BASELINE:
        return SECONDS_PER_BASELINE_USER
    training, evaluation = PARADIGMS[paradigm].seconds
    if cell.kind == "evaluation":
        return evaluation * LINE_FACTOR if "line" in cell.recipe else evaluation
    return training * LATER_FACTOR if _is_later(cell) else training


def _likeness(cell: Cell) -> tuple[Any, ...]:
    """The properties on which the cost per unit of work depends; similar cells share them."""
    recipe = cell.recipe
    names = ("paradigm", "precision", "batch_size", "negatives", "text_tokens", "threads", "hidden_size", "layers")
    return (cell.kind, recipe.get("study"), _is_later(cell), "line" in recipe, *(recipe.get(name) for name in names))


class _Work:
    """Units of work: trained interactions, evaluated users or tokens; 1 if all cells of the kind take about as long."""

    def __init__(self, records: Mapping[Cell, Record], guess: bool) -> None:
        self._records, self._guess = records, guess
        self._corpora = [record for cell, record in records.items() if cell.kind == "corpus"] if guess else []

    def __call__(self, cell: Cell) -> float | None:
        recipe = cell.recipe
        if cell.kind == "backbone":
            return float(recipe.get("steps", 0) * recipe.get("batch_rows", 0) * recipe.get("row_tokens", 0)) or 1.0
        if cell.kind not in ("checkpoint", "evaluation") or "files" in recipe or EXACT in cell.upstream:
            return 1.0
        corpus = self._records.get(cell.upstream["corpus"])
        known = [corpus] if corpus else self._corpora
        if not known:
            return None
        return sum(_work_on(recipe, cell.kind, record.summary["statistics"]) for record in known) / len(known)


def _work_on(recipe: Mapping[str, Any], kind: str, statistics: Any) -> float:
    if kind == "evaluation":
        return float(min(statistics["test_users"], recipe["max_users"] or statistics["test_users"]))
    phases = ("pretrain", "phase1", "phase2") if recipe["phase"] == "all" else (recipe["phase"],)
    interactions = sum(statistics["interactions"][phase] for phase in phases)
    if "least_steps" not in recipe:
        return float(interactions * recipe["epochs"])
    of_an_example = max(interactions / max(statistics["users"], 1), 1.0)
    least = recipe["least_steps"] * recipe["batch_size"] * of_an_example
    return float(max(interactions * recipe["epochs"], least))
