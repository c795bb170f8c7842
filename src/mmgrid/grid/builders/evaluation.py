"""`evaluation/<paradigm>/<domain>/<model>`: where each test user's target stands in a model's ranking."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from mmgrid.data import TestSet
from mmgrid.evaluation import NOT_RANKED, popularity_ranks, random_ranks, rows
from mmgrid.grid.builders.job import Job
from mmgrid.grid.builders.scene import Scene, scene
from mmgrid.seeds import derive

RANKS_FILE = "ranks.parquet"  # one row a test user: user_id, target, active, rank
ROWS_FILE = "rows.parquet"  # results rows


def build(job: Job) -> Mapping[str, Any]:
    seen = scene(job)
    ranks = _ranks(job, seen)
    _write(job, seen.tested, ranks)
    missing = float(np.mean(~seen.items.is_candidate()[seen.tested.targets]))
    return {
        "users": len(seen.tested),
        "work": len(seen.tested),
        "not_ranked": float(np.mean(ranks == NOT_RANKED)),
        "targets_outside_catalogue": missing,
    }


def _ranks(job: Job, seen: Scene) -> np.ndarray:
    name, tested, items = job.recipe["model"], seen.tested, seen.items
    histories = tested.histories
    known = histories.offsets, histories.items, items.is_candidate()
    if job.recipe["paradigm"] == "baseline" and name == "popularity":
        return popularity_ranks(seen.counts, tested.targets, *known)
    if job.recipe["paradigm"] == "baseline":
        offsets, history, candidates = known
        seed = derive(job.recipe["seed"], "random")
        return random_ranks(tested.user_ids, tested.targets, offsets, history, len(items), candidates, seed=seed)
    return _model_ranks(job, seen)


def _model_ranks(job: Job, seen: Scene) -> np.ndarray:
    from mmgrid.grid.builders.grounds import ground
    from mmgrid.grid.builders.models import evaluated_model

    paradigm, model = evaluated_model(job)
    ground(paradigm, job.cell, job, seen)
    return paradigm.rank(model, seen.tested.histories, seen.items, seen.tested.targets)


def _write(job: Job, tested: TestSet, ranks: np.ndarray) -> None:
    recipe = job.recipe
    ranks_table(tested, ranks).write_parquet(job.folder / RANKS_FILE)
    rows(
        ranks,
        tested.active,
        paradigm=recipe["paradigm"],
        domain=recipe["domain"],
        model=recipe["model"],
        seed=recipe["seed"],
        **_merged(recipe),
    ).write_parquet(job.folder / ROWS_FILE)


def ranks_table(tested: TestSet, ranks: np.ndarray) -> pl.DataFrame:
    """user_id, target, active, rank: one row a test user."""
    users = {"user_id": tested.user_ids.tolist(), "target": tested.targets, "active": tested.active}
    return pl.DataFrame(users | {"rank": ranks})


def _merged(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a results row says of a merge: its sources, its method, and its λ, its α or the domain's own share."""
    if line := recipe.get("line"):
        temporal = line["kind"] == "temporal"
        sources = ("t1", "t2") if temporal else (line["first"], line["second"])
        return {"sources": sources, "merge": line["kind"], "parameter": float(line["at"])}
    merge = recipe.get("merge", {})
    weights = merge.get("weights", {})
    share = float(weights[recipe["domain"]]) if weights else None
    return {"sources": tuple(weights), "merge": merge.get("method", ""), "parameter": share}
