"""The change from a domain's own model to each merge that is evaluated on it, for the grid's own merges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mmgrid.evaluation import CHANGES_SCHEMA, change_rows

SAMPLES = 1000


@dataclass(frozen=True)
class Compared:
    """The ranks of a merge on one domain, and those of the domain's own model for at least the same users.

    Attributes:
        recipe: of the evaluation of the merge.
        about: the columns `model`, `sources`, `merge` and `parameter`.
        ranks: user_id, target, active, rank; one table for each draw of random masks.
        reference_ranks: likewise, of the domain's own model.
        reference: the name of that model.
    """

    recipe: Mapping[str, Any]
    about: Mapping[str, Any]
    ranks: Sequence[pl.DataFrame]
    reference_ranks: pl.DataFrame
    reference: str


def changes(compared: Iterable[Compared]) -> pl.DataFrame:
    """The change from the domain's own model to each merge, paired by user: `CHANGES_SCHEMA`.

    Raises:
        ValueError: a user of the merge has no rank by the domain's own model, or one for another target.
    """
    frames = []
    for pair in compared:
        same, first = ["user_id", "target"], pair.ranks[0]
        reference = first.select(same).join(pair.reference_ranks, on=same, how="left", maintain_order="left")
        if reference["rank"].null_count():
            raise ValueError(f"{pair.about['model']} and {pair.reference}: ranked for different users or targets")
        frames.append(
            change_rows(
                np.column_stack([ranks["rank"].to_numpy() for ranks in pair.ranks]),
                reference["rank"].to_numpy()[:, None],
                first["active"].to_numpy(),
                paradigm=pair.recipe["paradigm"],
                domain=pair.recipe["domain"],
                reference=pair.reference,
                seed=pair.recipe["seed"],
                samples=SAMPLES,
                **pair.about,
            )
        )
    return pl.concat([CHANGES_SCHEMA.to_frame(), *frames])
