"""The contents of a grid's store as tidy tables: cells, statistics, results, changes, loss curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mmgrid.data import PHASES, Corpus
from mmgrid.data.corpus import INTERACTIONS_FILE, ITEMS_FILE
from mmgrid.data.monthly import by_month
from mmgrid.evaluation import RESULTS_SCHEMA, result_rows
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.result_columns import by_draws, merge_columns, model_name
from mmgrid.grid.standing.cell_tables import read_facts, read_table
from mmgrid.grid.standing.kept import is_merged, newest_models
from mmgrid.grid.standing.state import CellState
from mmgrid.store import Record, Store
from mmgrid.studies import merge_changes
from mmgrid.studies.contract import RANKS_FILE, ROWS_FILE
from mmgrid.studies.registry import STUDIES


def cells_table(states: Mapping[Cell, CellState], records: Mapping[Cell, Record]) -> pl.DataFrame:
    """One row per cell: kind, name, paradigm, domain, phase, state, problem, seconds, peak_bytes, fingerprint, finished.

    A damaged cell counts as failed.
    """
    rows = []
    for cell, state in states.items():
        record = records.get(cell)
        rows.append(
            {
                "kind": cell.kind,
                "name": cell.name,
                "paradigm": cell.recipe.get("paradigm"),
                "domain": cell.key[1] if cell.kind == "checkpoint" else cell.recipe.get("domain"),
                "phase": cell.recipe.get("phase"),
                "state": "failed" if state.name == "damaged" else state.name,
                "problem": f"waits for {state.problem}" if state.name == "blocked" else state.problem or None,
                "seconds": record.seconds if record else None,
                "peak_bytes": record.peak_bytes if record else None,
                "fingerprint": cell.fingerprint,
                "finished": record.finished if record else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def statistics_table(records: Mapping[Cell, Record]) -> pl.DataFrame:
    """Table 1 and the data part of Table 4, one row per prepared domain."""
    return pl.DataFrame(
        [statistics_row(record.summary["statistics"]) for cell, record in records.items() if cell.kind == "corpus"]  # type: ignore[arg-type]
    )


def statistics_row(found: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics of a corpus as one flat row."""
    row = {"domain": found["domain"], "users": found["users"], "items": found["items"]}
    row |= {phase: found["interactions"][phase] for phase in PHASES}
    row |= {"items_test": found["test_items"]}
    return row | {name: found[name] for name in ("test_users", "active", "non_active", "active_ratio", "gap_days")}


def codes_table(records: Mapping[Cell, Record]) -> pl.DataFrame:
    """One row per domain's semantic IDs: usage of codes, quantisation error in percent, and collisions."""
    rows = []
    for cell, record in records.items():
        if cell.kind == "codes":
            whose = {"domain": cell.recipe["domain"], "seed": cell.recipe["seed"]}
            quantiser = {"quantiser": cell.recipe["quantiser"]["kind"]}
            rows.append(whose | quantiser | _codes_row(record.summary))
    return pl.DataFrame(rows)


def _codes_row(found: Mapping[str, Any]) -> dict[str, Any]:
    """A report on semantic IDs as one flat row."""
    levels = found["levels"]
    return {
        "items": found["items"],
        "levels": len(levels),
        "codes": found["codes_per_level"],
        "least_used": min(level["used"] for level in levels),
        "least_entropy_bits": min(level["entropy_bits"] for level in levels),
        "error": 100 * levels[-1]["error"],
        "colliding_before": found["before"]["items"],
        "colliding": found["after"]["items"],
    }


def results_table(records: Mapping[Cell, Record], store: Store) -> pl.DataFrame:
    """All results rows, in the order of the cells, without the points of sweeps.

    A merge whose random masks were drawn several times has the mean over its draws.
    """
    scored = [cell for cell in records if cell.kind == "evaluation" and not cell.family]
    frames = [
        read_table(store, draws[0], ROWS_FILE) if len(draws) == 1 else _rows_of_draws(draws, store)
        for draws in by_draws(scored)
    ]
    return pl.concat([RESULTS_SCHEMA.to_frame(), *frames])


def _rows_of_draws(draws: Sequence[Cell], store: Store) -> pl.DataFrame:
    recipe, tables = draws[0].recipe, [read_table(store, cell, RANKS_FILE) for cell in draws]
    return result_rows(
        np.column_stack([table["rank"].to_numpy() for table in tables]),
        tables[0]["active"].to_numpy(),
        paradigm=recipe["paradigm"],
        domain=recipe["domain"],
        model=model_name(recipe),
        seed=recipe["seed"],
        **merge_columns(recipe),
    )


def study_tables(records: Mapping[Cell, Record], store: Store) -> dict[str, dict[str, pl.DataFrame]]:
    """Study → table → rows of all paradigms and seeds, for the built studies."""
    found: dict[str, dict[str, list[pl.DataFrame]]] = {}
    for cell in records:
        if cell.kind == "study":
            for table in STUDIES[cell.recipe["study"]].tables:
                frame = read_table(store, cell, f"{table}.parquet")
                found.setdefault(cell.recipe["study"], {}).setdefault(table, []).append(frame)
    return {name: {table: pl.concat(frames) for table, frames in tables.items()} for name, tables in found.items()}


def months_table(records: Mapping[Cell, Record], store: Store) -> pl.DataFrame:
    """domain, month (its first day), interactions, users, items, new_items: for every prepared domain."""
    frames = [
        by_month(prepared_corpus(cell, store)).select(pl.lit(cell.recipe["domain"]).alias("domain"), pl.all())
        for cell in records
        if cell.kind == "corpus"
    ]
    return pl.concat(frames) if frames else pl.DataFrame()


def prepared_corpus(cell: Cell, store: Store) -> Corpus:
    """The corpus of a built cell. Raises StoreError if it is damaged."""
    tables = [read_table(store, cell, file) for file in (INTERACTIONS_FILE, ITEMS_FILE)]
    return Corpus.from_tables(str(cell.recipe["domain"]), *tables)


def changes_table(records: Mapping[Cell, Record], store: Store) -> pl.DataFrame:
    """Each merge and family compared with the newest checkpoint of the domain on which it is evaluated, paired by user."""
    scored = [cell for cell in records if cell.kind == "evaluation" and not cell.family]
    newest = newest_models(scored)
    compared = []
    for draws in by_draws(cell for cell in scored if is_merged(cell)):
        recipe = draws[0].recipe
        single = newest.get((recipe["paradigm"], recipe["domain"], recipe["seed"]))
        if single is not None:
            ranks = [read_table(store, cell, RANKS_FILE) for cell in draws]
            about = {"model": model_name(recipe), **merge_columns(recipe)}
            reference = read_table(store, single, RANKS_FILE)
            compared.append(merge_changes.Compared(recipe, about, ranks, reference, single.recipe["model"]))
    return merge_changes.changes(compared)


def losses_table(records: Mapping[Cell, Record], store: Store) -> pl.DataFrame:
    """Loss curves of all checkpoints: paradigm, domain, phase, seed, step, epoch, loss."""
    rows: list[dict[str, Any]] = []
    for cell in records:
        if cell.kind == "checkpoint" and "files" not in cell.recipe and not cell.temporary:  # trained in this grid
            about: dict[str, Any] = dict(zip(("paradigm", "domain", "phase"), cell.key, strict=False))
            about["seed"] = cell.recipe["seed"]
            points = read_facts(store, cell, "training.json")["losses"]
            rows += [about | dict(zip(("step", "epoch", "loss"), point, strict=True)) for point in points]
    return pl.DataFrame(rows)
