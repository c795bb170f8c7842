"""The grid's checkpoints as tiles: one row per domain, one block of columns per paradigm, one column per phase."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from mmgrid.quantities import duration, size
from mmgrid.reporting.tables.labels import metric_label
from mmgrid.reporting.tables.numbers import number
from mmgrid.reporting.tables.order import PHASES, ordered, ordered_metrics, paradigm_order

SYMBOLS = {"built": "●", "missing": "○", "failed": "✕", "blocked": "‖"}


@dataclass(frozen=True)
class Tile:
    """One checkpoint: its state, the time it took, its score if it is evaluated, and all of this in words."""

    state: str
    symbol: str
    time: str
    score: str
    detail: str


@dataclass(frozen=True)
class CheckpointGrid:
    """The tiles, and the headings of their rows and columns.

    Attributes:
        paradigms: (paradigm, its phases), one per block of columns.
        rows: (domain, blocks), one per row; a block has one tile per phase, `None` where the grid has no checkpoint.
        score_label: the metric of the scores; empty if there are none.
    """

    paradigms: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[str, tuple[tuple[Tile | None, ...], ...]], ...]
    score_label: str


def checkpoint_grid(cells: pl.DataFrame, results: pl.DataFrame, domains: Sequence[str]) -> CheckpointGrid | None:
    """The tiles of the grid's checkpoints; `None` without checkpoints."""
    checkpoints = cells.filter(
        (pl.col("kind") == "checkpoint") & pl.all_horizontal(pl.col("paradigm", "domain", "phase").is_not_null())
    )
    if checkpoints.is_empty():
        return None
    metric, scores = _scores(results)
    by_key = {(row["paradigm"], row["domain"], row["phase"]): row for row in checkpoints.iter_rows(named=True)}
    paradigms = []
    for paradigm in ordered(checkpoints["paradigm"].to_list(), paradigm_order()):
        phases = checkpoints.filter(pl.col("paradigm") == paradigm)["phase"].to_list()
        paradigms.append((paradigm, tuple(ordered(phases, PHASES))))
    rows = []
    for domain in ordered(checkpoints["domain"].to_list(), domains):
        blocks = []
        for paradigm, phases in paradigms:
            keys = [(paradigm, domain, phase) for phase in phases]
            blocks.append(tuple(_tile(by_key[key], scores.get(key), metric) if key in by_key else None for key in keys))
        rows.append((domain, tuple(blocks)))
    return CheckpointGrid(tuple(paradigms), tuple(rows), metric_label(metric) if scores else "")


def _scores(results: pl.DataFrame) -> tuple[str, dict[tuple[str, str, str], float]]:
    """The main metric, and (paradigm, domain, model) → its value over all users, averaged over seeds."""
    over_all = results.filter((pl.col("group") == "all") & (pl.col("merge").fill_null("") == ""))
    metric = next(iter(ordered_metrics(sorted(over_all["metric"].unique().to_list()))), "")
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
