"""The change from a domain's own model to each merge that is evaluated on it, for the grid's own merges."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmgrid.evaluation import CHANGES_SCHEMA, change_rows

SAMPLES = 1000


@dataclass(frozen=True)
class Compared:
    """The ranks of a merge on one domain, and those of the domain's own model for at least the same users."""

    recipe: Mapping[str, Any]  # of the evaluation of the merge
    ranks: pl.DataFrame  # user_id, target, active, rank
    reference_ranks: pl.DataFrame
    reference: str  # the domain's own model


def changes(compared: Iterable[Compared]) -> pl.DataFrame:
    """The change from the domain's own model to each merge, paired by user: `CHANGES_SCHEMA`.

    Raises:
        ValueError: a user of the merge has no rank by the domain's own model, or one for another target.
    """
    frames = []
    for pair in compared:
        same = ["user_id", "target"]
        reference = pair.ranks.select(same).join(pair.reference_ranks, on=same, how="left", maintain_order="left")
        if reference["rank"].null_count():
            raise ValueError(f"{pair.recipe['model']} and {pair.reference}: ranked for different users or targets")
        merge = pair.recipe["merge"]
        own_name = "rules" in merge  # a merge of the grid file with a name of its own
        share = None if own_name else merge["weights"].get(pair.recipe["domain"])
        frames.append(
            change_rows(
                pair.ranks["rank"].to_numpy(),
                reference["rank"].to_numpy(),
                pair.ranks["active"].to_numpy(),
                paradigm=pair.recipe["paradigm"],
                domain=pair.recipe["domain"],
                model=pair.recipe["model"],
                reference=pair.reference,
                sources=tuple(merge["weights"]),
                merge=pair.recipe["model"] if own_name else merge["method"],
                parameter=None if share is None else float(share),
                seed=pair.recipe["seed"],
                samples=SAMPLES,
            )
        )
    return pl.concat([CHANGES_SCHEMA.to_frame(), *frames])
