"""`evaluation/<paradigm>/<domain>/<model>`: the rank of each test user's target under a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.data import Calendar, HeldOut, held_out
from mmgrid.evaluation import NOT_RANKED, popularity_ranks, random_ranks, result_rows
from mmgrid.grid.cells.evaluations import BASELINE
from mmgrid.grid.cells.result_columns import merge_columns
from mmgrid.grid.file.load import Grid
from mmgrid.seeds import derive
from mmgrid.studies.contract import RANKS_FILE, ROWS_FILE

__all__ = ["BASELINE", "baseline_ranks", "known_users", "model_ranks", "needs_of", "write"]

MOST = 4  # cached per process: two domains of a pair alternate, each with up to two samples of users

_known: dict[tuple[object, ...], HeldOut] = {}
_needs: dict[tuple[object, ...], dict[str, Any]] = {}


def known_users(corpus: Path, calendar: Calendar, recipe: Mapping[str, Any]) -> HeldOut:
    """Users, catalogue and popularity for an evaluation's recipe; cached for the next evaluation of this process."""
    options = {
        "target": recipe["target"],
        "catalogue": recipe["catalogue"],
        "max_users": recipe["max_users"],
        "seed": recipe.get("sample_seed", 0),
    }
    key = (corpus, calendar, *options.values())
    return _cached(_known, key, lambda: held_out(corpus, calendar, **options))


def needs_of(folders: Mapping[str, Path], grid: Grid) -> dict[str, Any]:
    """The paradigm's needs, read from upstream folders, by the names in `ParadigmSpec.evaluation_needs`."""
    from mmgrid.grid.builders.vectors import embedder_of, load_vectors

    titles, items, embedder = (folders.get(f"asks:{role}") for role in ("titles", "vectors", "embedder"))
    if "asks:codes" in folders:
        from mmgrid.paradigms.contract import CodesFolder

        codes = {"codes": CodesFolder(folders["asks:codes"], grid.spec.semantic_ids.codebook == "shared")}
    else:
        codes = {}

    def read() -> dict[str, Any]:
        found: dict[str, Any] = dict(codes)
        for need, folder in (("title_vectors", titles), ("item_vectors", items)):
            if folder is not None:
                found[need] = load_vectors(folder)
        if titles is not None or items is not None or embedder is not None:
            found["embedder"] = embedder_of(grid, embedder)
        return found

    return _cached(_needs, (titles, items, embedder, *codes.values()), read)


def baseline_ranks(name: str, known: HeldOut, seed: int) -> np.ndarray:
    """The ranks of a baseline: by popularity or at random."""
    users, items = known.users, known.items
    offsets, history, candidates = users.histories.offsets, users.histories.items, items.is_candidate()
    if name == "popularity":
        return popularity_ranks(known.counts, users.targets, offsets, history, candidates)
    drawn_by = derive(seed, "random")
    return random_ranks(users.user_ids, users.targets, offsets, history, len(items), candidates, seed=drawn_by)


def model_ranks(
    recipe: Mapping[str, Any], folders: Mapping[str, Path], known: HeldOut, needs: Mapping[str, Any]
) -> np.ndarray:
    """The ranks by the model that the recipe describes, made from the upstream folders."""
    from mmgrid.grid.builders.models import evaluated_model
    from mmgrid.paradigms.recommender import ranks_of

    paradigm, model = evaluated_model(recipe, folders)
    paradigm.prepare(known, needs, recipe["seed"])
    return ranks_of(paradigm, model, known)


def write(recipe: Mapping[str, Any], known: HeldOut, ranks: np.ndarray, folder: Path) -> Mapping[str, Any]:
    """Write ranks and results rows."""
    users = known.users
    known.users.ranks_table(ranks).write_parquet(folder / RANKS_FILE)
    result_rows(
        ranks,
        users.active,
        paradigm=recipe["paradigm"],
        domain=recipe["domain"],
        model=recipe["model"],
        seed=recipe["seed"],
        **merge_columns(recipe),
    ).write_parquet(folder / ROWS_FILE)
    return {
        "users": len(users),
        "work": len(users),
        "not_ranked": float(np.mean(ranks == NOT_RANKED)),
        "targets_outside_catalogue": float(np.mean(~known.items.is_candidate()[users.targets])),
    }


def _cached(cache: dict[Any, Any], key: Any, make: Any) -> Any:
    if key not in cache:
        while len(cache) >= MOST:
            cache.pop(next(iter(cache)))
        cache[key] = make()
    return cache[key]
