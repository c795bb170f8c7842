"""What merges, families and other trainings of a grid keep of each domain's own model: per domain, and over all."""

from collections.abc import Mapping, Sequence

import polars as pl

from mmgrid.data import PHASES
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.chains import is_joint, is_variant
from mmgrid.grid.cells.result_columns import by_draws, model_name
from mmgrid.grid.standing.cell_tables import read_table
from mmgrid.grid.standing.making_time import seconds_to_make
from mmgrid.grid.standing.served_size import served_size
from mmgrid.store import Record, Store
from mmgrid.studies.contract import RANKS_FILE
from mmgrid.studies.kept_tables import KEPT_SCHEMA, SERVED_SCHEMA, kept_rows, served_rows
from mmgrid.studies.statistics.merged_sets import MERGED, SINGLE, MergedSet
from mmgrid.studies.statistics.ranked import Ranked


def kept_tables(
    records: Mapping[Cell, Record], store: Store, *, group: str = "all", own_names: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The kept shares of all evaluated merges, families, joint trainings and variants: `KEPT_SCHEMA`, `SERVED_SCHEMA`.

    Args:
        group: of users.
        own_names: no merges without a name in the grid file.
    """
    scored = [cell for cell in records if cell.kind == "evaluation" and not cell.family]
    newest = newest_models(scored)
    merges: dict[tuple[str, str, int], list[tuple[MergedSet, int, Cell]]] = {}
    for draws in by_draws(cell for cell in scored if is_merged(cell) or is_other_training(cell)):
        recipe = draws[0].recipe
        single = newest.get((recipe["paradigm"], recipe["domain"], recipe["seed"]))
        if single is None or (own_names and "rules" not in recipe.get("merge", {"rules": ()})):
            continue
        tables = {SINGLE: [single], MERGED: draws}
        ranked = Ranked.of(
            {name: [read_table(store, cell, RANKS_FILE) for cell in own] for name, own in tables.items()}
        )
        users = ranked.groups()[group]
        name = model_name(recipe)
        of = MergedSet(recipe["paradigm"], recipe["seed"], name, (), recipe["domain"], users)
        if len(users):
            merges.setdefault((recipe["paradigm"], name, recipe["seed"]), []).append((of, len(draws), draws[0]))
    kept, served = [], []
    for domains in merges.values():
        size = served_size([cell for _, _, cell in domains], records, store)
        kept += [row for of, draws, _ in domains for row in kept_rows(of, draws)]
        seconds = seconds_to_make([cell for _, _, cell in domains], records)
        served += served_rows([(of, draws) for of, draws, _ in domains], size, seconds)
    return pl.DataFrame(kept, schema=KEPT_SCHEMA), pl.DataFrame(served, schema=SERVED_SCHEMA)


def is_merged(evaluation: Cell) -> bool:
    """Whether an evaluation is of a merge or a family, and not of a checkpoint."""
    return "merge" in evaluation.recipe or "family" in evaluation.recipe


def is_other_training(evaluation: Cell) -> bool:
    """Whether an evaluation is of a joint training or a variant."""
    model = evaluation.upstream.get("model")
    return model is not None and (is_joint(model) or is_variant(model))


def newest_models(evaluations: Sequence[Cell]) -> dict[tuple[str, str, int], Cell]:
    """Paradigm, domain and seed → the evaluation of the newest checkpoint."""
    found: dict[tuple[str, str, int], Cell] = {}
    for cell in evaluations:
        recipe = cell.recipe
        if is_merged(cell) or "line" in recipe or recipe["model"] not in PHASES:
            continue
        key = (recipe["paradigm"], recipe["domain"], recipe["seed"])
        known = found.get(key)
        later = known is None or PHASES.index(recipe["model"]) > PHASES.index(known.recipe["model"])
        more = known is not None and recipe["model"] == known.recipe["model"] and len(cell.key) < len(known.key)
        if later or more:  # of two samples of users, the grid's, which holds the others
            found[key] = cell
    return found
