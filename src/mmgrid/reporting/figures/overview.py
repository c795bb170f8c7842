"""The grid as a picture: which checkpoints exist for each domain, phase and paradigm, and what they took.

Checkpoints are the tiles (one row a domain, one block of columns a paradigm); all other cells are counted by
kind and listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mmgrid.reporting.inputs import STATES
from mmgrid.reporting.tables.comparison import PARADIGM_ORDER, metric_label
from mmgrid.reporting.tables.numbers import duration, number, size
from mmgrid.reporting.tables.tables import Column, Table, ordered

PHASE_ORDER = ("pretrain", "phase1", "phase2", "all")
SYMBOLS = {"built": "●", "missing": "○", "failed": "✕", "blocked": "‖"}


@dataclass(frozen=True)
class Tile:
    """One checkpoint: its state, how long it took, and its score if it was evaluated."""

    state: str
    symbol: str
    time: str
    score: str
    detail: str


@dataclass(frozen=True)
class Picture:
    """Tiles by domain; ``paradigms`` are the blocks of columns with the phases in each.

    ``rows`` holds one (domain, blocks) a domain: for each paradigm the tiles of its phases, ``None`` where the
    grid has no such cell.
    """

    paradigms: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[str, tuple[tuple[Tile | None, ...], ...]], ...]
    score_label: str


def picture(cells: pl.DataFrame, results: pl.DataFrame, domains: Sequence[str]) -> Picture | None:
    """The checkpoints of the grid, or ``None`` if it has none."""
    checkpoints = cells.filter(
        (pl.col("kind") == "checkpoint") & pl.all_horizontal(pl.col("paradigm", "domain", "phase").is_not_null())
    )
    if checkpoints.is_empty():
        return None
    metric, scores = _scores(results)
    found = {(row["paradigm"], row["domain"], row["phase"]): row for row in checkpoints.iter_rows(named=True)}
    paradigms = []
    for paradigm in ordered(checkpoints["paradigm"].to_list(), PARADIGM_ORDER):
        phases = checkpoints.filter(pl.col("paradigm") == paradigm)["phase"].to_list()
        paradigms.append((paradigm, tuple(ordered(phases, PHASE_ORDER))))
    rows = []
    for domain in ordered(checkpoints["domain"].to_list(), domains):
        blocks = []
        for paradigm, phases in paradigms:
            keys = [(paradigm, domain, phase) for phase in phases]
            blocks.append(tuple(_tile(found[k], scores.get(k), metric) if k in found else None for k in keys))
        rows.append((domain, tuple(blocks)))
    return Picture(tuple(paradigms), tuple(rows), metric_label(metric) if scores else "")


def kinds_table(cells: pl.DataFrame) -> Table | None:
    """How many cells of each kind are in which state, and what they took in sum."""
    if cells.is_empty():
        return None
    states = [(pl.col("state") == state).sum().cast(pl.Int64).alias(state) for state in STATES]
    frame = cells.group_by("kind", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("cells"), *states, pl.col("seconds").sum(), pl.col("peak_bytes").max()
    )
    columns = [
        Column("kind", "Kind"),
        Column("cells", "Cells", digits=0),
        *(Column(state, state.capitalize(), digits=0) for state in STATES),
        Column("seconds", "Time in sum", render=duration),
        Column("peak_bytes", "Peak memory", render=size, hint="the largest of the kind"),
    ]
    return Table("table-kinds", "Cells by kind", "All cells of the grid, by kind.", tuple(columns), frame)


def cells_table(cells: pl.DataFrame) -> Table | None:
    """Every cell of the grid, one a row."""
    if cells.is_empty():
        return None
    columns = [
        Column("kind", "Kind"),
        Column("name", "Cell", code=True),
        Column("state", "State"),
        Column("seconds", "Time", render=duration),
        Column("peak_bytes", "Peak memory", render=size),
        Column("fingerprint", "Fingerprint", code=True),
        Column("finished", "Finished"),
        Column("problem", "Problem"),
    ]
    return Table("table-cells", "Every cell", "Every cell of the grid.", tuple(columns), cells)


def _scores(results: pl.DataFrame) -> tuple[str, dict[tuple[str, str, str], float]]:
    """The value of one metric over all users for each (paradigm, domain, model), averaged over seeds."""
    over_all = results.filter((pl.col("group") == "all") & (pl.col("merge").fill_null("") == ""))
    metrics = over_all["metric"].unique().to_list()
    metric = next((name for name in ("ndcg@10", "ndcg@20") if name in metrics), min(metrics, default=""))
    means = (
        over_all.filter(pl.col("metric") == metric).group_by("paradigm", "domain", "model").agg(pl.col("value").mean())
    )
    return metric, {(row[0], row[1], row[2]): row[3] for row in means.iter_rows()}


def _tile(row: dict[str, object], score: float | None, metric: str) -> Tile:
    state, seconds, peak = str(row["state"]), row["seconds"], row["peak_bytes"]
    time = duration(seconds) if isinstance(seconds, float) else ""
    detail = [f"{row['name']}: {state}" + (f" ({row['problem']})" if row["problem"] else "")]
    if time:
        detail.append(f"took {time}")
    if isinstance(peak, int):
        detail.append(f"peak memory {size(peak)}")
    if row["fingerprint"]:
        detail.append(f"fingerprint {row['fingerprint']}")
    if score is not None:
        detail.append(f"{metric_label(metric)} {number(score, 2)} %")
    return Tile(state, SYMBOLS.get(state, "?"), time, "" if score is None else number(score, 2), ", ".join(detail))
