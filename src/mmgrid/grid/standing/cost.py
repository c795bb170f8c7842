"""Estimates the cost of missing cells in seconds: from similar cells that were built, else from measured rates."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.evaluations import BASELINE
from mmgrid.paradigms import PARADIGMS
from mmgrid.store import Record

# Seconds per evaluated user and per token on one core of the development machine. The spec of a paradigm declares its
# own rates.
SECONDS_PER_BASELINE_USER = 2e-4
SECONDS_PER_TOKEN = 2.5e-4
FIXED = {
    "corpus": 3.0,
    "backbone": 5.0,
    "base": 2.0,
    "vectors": 10.0,
    "codes": 10.0,
    "checkpoint": 2.0,
    "merge": 1.0,
    "evaluation": 3.0,
    "study": 10.0,
}


def estimate(cells: Sequence[Cell], records: Mapping[Cell, Record]) -> dict[Cell, float | None]:
    """Seconds for each missing cell; None if the amount of work is unknown because its corpus is not built."""
    rates = _measured(records)
    return {cell: _seconds(cell, records, rates) for cell in cells if cell not in records}


def _measured(records: Mapping[Cell, Record]) -> dict[tuple[Any, ...], float]:
    """Seconds per unit of work of the built cells, for each group of similar cells."""
    done: dict[tuple[Any, ...], list[float]] = {}
    for cell, record in records.items():
        work = _work(cell, records)
        if work and record.seconds:
            sums = done.setdefault(_likeness(cell), [0.0, 0.0])
            sums[0] += record.seconds
            sums[1] += work
    return {likeness: seconds / work for likeness, (seconds, work) in done.items()}


def _seconds(cell: Cell, records: Mapping[Cell, Record], rates: Mapping[tuple[Any, ...], float]) -> float | None:
    work = _work(cell, records)
    if work is None:
        return None
    if rate := rates.get(_likeness(cell)):
        return work * rate
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
    return training if cell.kind == "checkpoint" else evaluation


def _likeness(cell: Cell) -> tuple[Any, ...]:
    """The properties on which the cost per unit of work depends; similar cells share them."""
    recipe = cell.recipe
    names = ("paradigm", "precision", "batch_size", "negatives", "text_tokens", "threads", "hidden_size", "layers")
    return (cell.kind, recipe.get("study"), *(recipe.get(name) for name in names))


def _work(cell: Cell, records: Mapping[Cell, Record]) -> float | None:
    """Units of work: trained interactions, evaluated users or tokens; 1 if all cells of the kind take about as long."""
    recipe = cell.recipe
    if cell.kind == "backbone":
        return float(recipe.get("steps", 0) * recipe.get("batch_rows", 0) * recipe.get("row_tokens", 0)) or 1.0
    if cell.kind not in ("checkpoint", "evaluation") or "files" in recipe:
        return 1.0
    corpus = records.get(cell.upstream["corpus"])
    if corpus is None:
        return None
    statistics: Any = corpus.summary["statistics"]
    if cell.kind == "evaluation":
        return float(min(statistics["test_users"], recipe["max_users"] or statistics["test_users"]))
    phases = ("pretrain", "phase1", "phase2") if recipe["phase"] == "all" else (recipe["phase"],)
    return sum(statistics["interactions"][phase] for phase in phases) * recipe["epochs"]
