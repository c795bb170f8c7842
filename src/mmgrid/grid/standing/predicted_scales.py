"""Predicts λ for each domain of a grid from its prepared data and the best λ of the other domains."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmgrid.data import Calendar, Corpus, DataError, NoTestUsersError, held_out_users
from mmgrid.data.statistics import mean_gap_days
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import Grid
from mmgrid.grid.standing.cell_tables import read_table
from mmgrid.store import Store
from mmgrid.studies.predicted_scale import LEAST_POINTS, PredictedScale, predict_scale
from mmgrid.studies.statistics.leave_one_out_line import PAPER_POINTS


def predicted_scales(
    cells: Sequence[Cell], store: Store, grid: Grid, domains: Sequence[str], paradigm: str
) -> list[PredictedScale]:
    """λ̂ for each of `domains`, whose corpora must be built. Of the domain itself, nothing at or after t2 is read.

    Raises:
        DataError: a domain has no interactions before t2, or no user whose last one before t2 is in phase2.
    """
    calendar = grid.spec.phases.calendar()
    measured = _measured(cells, store, paradigm)
    corpora = {cell.recipe["domain"]: cell for cell in cells if cell.kind == "corpus"}
    found = []
    for domain in domains:
        others = {name: point for name, point in measured.items() if name != domain}
        enough = len(others) >= LEAST_POINTS
        points: Mapping[str, tuple[float, float]] = others if enough else PAPER_POINTS
        source = "this grid's recency study" if enough else "the paper's Table 4: another model, other data"
        gap, active = _features(Corpus.load(store.sound(corpora[domain].address), until=calendar.t2), calendar)
        found.append(predict_scale(domain, gap, active, points, source))
    return found


def _features(corpus: Corpus, calendar: Calendar) -> tuple[float, float]:
    """Mean interaction time gap in days, and the share of active users one phase earlier."""
    gap = mean_gap_days(corpus)
    if gap is None:
        raise DataError(f"{corpus.name}: has no interactions before t2, so λ cannot be predicted")
    try:
        return gap, float(held_out_users(corpus, calendar, "phase2").active.mean())
    except NoTestUsersError as error:
        raise DataError(f"{error}. Without them the share of active users cannot be estimated") from None


def _measured(cells: Sequence[Cell], store: Store, paradigm: str) -> dict[str, tuple[float, float]]:
    """Domain → gap in days and λ* (averaged over seeds), from the built recency studies of the paradigm."""
    places: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        if cell.kind == "study" and cell.key[:2] == ("recency", paradigm) and store.has(cell.address):
            table = read_table(store, cell, "recency.parquet")
            rows: list[dict[str, Any]] = table.drop_nulls(["best", "gap_days"]).to_dicts()
            for row in rows:
                places.setdefault(row["domain"], []).append((row["gap_days"], row["best"]))
    return {domain: (found[0][0], sum(best for _, best in found) / len(found)) for domain, found in places.items()}
