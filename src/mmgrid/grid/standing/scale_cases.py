"""The domains of a built grid as cases: the best λ of each, and the facts that may predict it."""

from collections.abc import Mapping
from pathlib import Path

from mmgrid.data import format_time
from mmgrid.data.held_out import end_of_knowledge
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import GridError
from mmgrid.grid.standing.cell_tables import read_table
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.studies.contract import RANKS_FILE
from mmgrid.studies.registry import STUDIES
from mmgrid.studies.scale_case import Case, facts_of
from mmgrid.studies.sweep import Sweep, SweepStudy


def swept_paradigms(grid: GridStore) -> list[str]:
    """The paradigms for which the grid has a study of λ, in the order of the grid."""
    return list(dict.fromkeys(cell.key[1] for cell in _studies(grid)))


def scale_cases(grid: GridStore, paradigm: str, group: str) -> list[Case]:
    """The domains of the paradigm's study of λ, for each seed; those without users of the group are left out.

    Of several such studies, the first in the order of listings is read: they evaluate the same line.

    Raises:
        GridError: the grid has no such study.
        FileNotFoundError: a cell is not built; the message has the command that builds it.
        StoreError: a cell is damaged.
    """
    studies = [cell for cell in _studies(grid) if cell.key[1] == paradigm]
    if not studies:
        known = swept_paradigms(grid)
        remedy = f"it has one for {', '.join(known)}" if known else 'add [[studies]] with kind = "temporal"'
        raise GridError(f"{grid.grid.file}: no study evaluates {paradigm} at several λ; {remedy}")
    first = [cell for cell in studies if cell.key[0] == studies[0].key[0]]
    return [case for study in first for case in _cases(grid, study, group)]


def _studies(grid: GridStore) -> list[Cell]:
    """The studies of λ, in the order of listings."""
    found = [cell for cell in grid.cells if cell.kind == "study" and isinstance(STUDIES[cell.key[0]], SweepStudy)]
    order = list(STUDIES)
    return sorted(found, key=lambda cell: order.index(cell.key[0]))


def _cases(grid: GridStore, study: Cell, group: str) -> list[Case]:
    paradigm, target = study.recipe["paradigm"], grid.grid.spec.evaluation.target
    calendar = grid.grid.spec.phases.calendar()
    window = format_time(end_of_knowledge(calendar, target))
    cases = []
    for domain, parts in study.needs.items():
        points: Mapping[float, Cell] = parts.points
        for cell in points.values():
            grid.folder(cell)  # says which one is missing
        ranks = {at: read_table(grid.store, cell, RANKS_FILE) for at, cell in points.items()}
        sweep = Sweep.of(paradigm, domain, study.recipe["seed"], ranks)
        if group in sweep.best:
            between = next(cell for cell in points.values() if "end" in cell.upstream)
            corpus = grid.folder(between.upstream["corpus"])
            facts = facts_of(corpus, _checkpoints(grid, between), paradigm, calendar, target)
            cases.append(Case(window, group, sweep, facts))
    return cases


def _checkpoints(grid: GridStore, between: Cell) -> dict[str, Path]:
    """Phase → folder, oldest first, of the two checkpoints of a point and of the one that they were trained from."""
    newest = [between.upstream["start"], between.upstream["end"]]
    before = newest[0].upstream.get("start")
    chain = [before, *newest] if before is not None and before.kind == "checkpoint" else newest
    return {cell.recipe["phase"]: grid.folder(cell) for cell in chain}
