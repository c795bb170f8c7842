"""`evaluation/<paradigm>/<domain>/<model>`: where each test user's target stands in a model's ranking."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmgrid.data import Corpus, Items, TestSet, catalogue_at, test_set
from mmgrid.evaluation import NOT_RANKED, popularity_ranks, random_ranks, rows
from mmgrid.grid.build.job import Job
from mmgrid.seeds import derive

RANKS_FILE = "ranks.parquet"  # one row a test user: user_id, target, active, rank
ROWS_FILE = "rows.parquet"  # results rows


def build(job: Job) -> Mapping[str, Any]:
    recipe, calendar = job.recipe, job.calendar
    # Tuning on phase2 must not see the test phase, and a test needs its targets.
    end = calendar.t2 if recipe["target"] == "phase2" else calendar.test.end
    known_until = calendar.t1 if recipe["target"] == "phase2" else calendar.t2
    corpus = job.corpus(until=end)
    items = catalogue_at(corpus, recipe["catalogue"], known_until)
    tested = test_set(corpus, calendar, recipe["target"], recipe["max_users"], recipe.get("sample_seed", 0))
    ranks = _ranks(job, corpus, items, tested, known_until)
    _write(job, tested, ranks)
    missing = float(np.mean(~items.is_candidate()[tested.targets]))
    return {
        "users": len(tested),
        "work": len(tested),
        "not_ranked": float(np.mean(ranks == NOT_RANKED)),
        "targets_outside_catalogue": missing,
    }


def _ranks(job: Job, corpus: Corpus, items: Items, tested: TestSet, known_until: int) -> np.ndarray:
    name, histories = job.recipe["model"], tested.histories
    seen = histories.offsets, histories.items, items.is_candidate()
    if job.recipe["paradigm"] == "baseline" and name == "popularity":
        counts = np.bincount(corpus.items[corpus.timestamps < known_until], minlength=len(items))
        return popularity_ranks(counts, tested.targets, *seen)
    if job.recipe["paradigm"] == "baseline":
        offsets, history, candidates = seen
        seed = derive(job.recipe["seed"], "random")
        return random_ranks(tested.user_ids, tested.targets, offsets, history, len(items), candidates, seed=seed)
    return _model_ranks(job, items, tested)


def _model_ranks(job: Job, items: Items, tested: TestSet) -> np.ndarray:
    import torch

    from mmgrid.grid.build.merge import merged_weights
    from mmgrid.paradigms.registry import open_checkpoint

    sources = job.roles("source")
    folder: Path = job.upstream("model") if "model" in job.cell.upstream else next(iter(sources.values()))
    paradigm, model = open_checkpoint(folder)
    if "model" not in job.cell.upstream:
        model.load_state_dict(merged_weights(job.recipe["merge"], sources, job.upstream("base")))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return paradigm.rank(model, tested.histories, items, tested.targets)


def _write(job: Job, tested: TestSet, ranks: np.ndarray) -> None:
    recipe = job.recipe
    merge = recipe.get("merge", {})
    pl.DataFrame(
        {
            "user_id": tested.user_ids.tolist(),
            "target": tested.targets,
            "active": tested.active,
            "rank": ranks,
        }
    ).write_parquet(job.folder / RANKS_FILE)
    rows(
        ranks,
        tested.active,
        paradigm=recipe["paradigm"],
        domain=recipe["domain"],
        model=recipe["model"],
        sources=tuple(merge.get("weights", {})),
        merge=merge.get("method", ""),
        parameter=_parameter(recipe),
        seed=recipe["seed"],
    ).write_parquet(job.folder / ROWS_FILE)


def _parameter(recipe: Mapping[str, Any]) -> float | None:
    """The evaluated domain's share in a merge of a pair."""
    weights = recipe.get("merge", {}).get("weights")
    return None if weights is None else float(weights[recipe["domain"]])
