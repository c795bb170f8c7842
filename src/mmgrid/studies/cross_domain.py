"""Cross-domain merging (Fig. 3): what a merge of two domains' models costs or gains on each of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmgrid.evaluation import CHANGES_SCHEMA, change_rows


@dataclass(frozen=True)
class Compared:
    """A merge on one domain, and the domain's own model on the same users."""

    recipe: Mapping[str, Any]  # of the merge's evaluation
    ranks: pl.DataFrame  # user_id, target, active, rank
    reference_ranks: pl.DataFrame
    reference: str  # the domain's own model


def changes(compared: Iterable[Compared]) -> pl.DataFrame:
    """How each merge differs from the domain's own model, paired by user: `CHANGES_SCHEMA`.

    Raises ValueError when two models were ranked for different users or targets.
    """
    frames = []
    for pair in compared:
        same = ["user_id", "target"]
        if not pair.ranks.select(same).equals(pair.reference_ranks.select(same)):
            raise ValueError(f"{pair.recipe['model']} and {pair.reference}: ranked for different users or targets")
        merge = pair.recipe["merge"]
        frames.append(
            change_rows(
                pair.ranks["rank"].to_numpy(),
                pair.reference_ranks["rank"].to_numpy(),
                pair.ranks["active"].to_numpy(),
                paradigm=pair.recipe["paradigm"],
                domain=pair.recipe["domain"],
                model=pair.recipe["model"],
                reference=pair.reference,
                sources=tuple(merge["weights"]),
                merge=merge["method"],
                parameter=float(merge["weights"][pair.recipe["domain"]]),
                seed=pair.recipe["seed"],
                samples=SAMPLES,
            )
        )
    return pl.concat([CHANGES_SCHEMA.to_frame(), *frames])


SAMPLES = 1000
