"""Cross-domain merging (Fig. 3): what a merge of two domains' models costs or gains on each of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from mmgrid.evaluation import CHANGES_SCHEMA, change_rows
from mmgrid.studies.findings import FINDINGS_SCHEMA
from mmgrid.studies.plot import Axis, Plot

MERGES_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "way": pl.String,
        "domain": pl.String,
        "partner": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "single": pl.Float64,
        "merged": pl.Float64,
        "change": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_adjusted": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row a way (``weight`` or ``subspace``), evaluated domain, partner, group and metric.

``single`` (the domain's own model at t2) and ``merged`` in percent, ``change`` with its bounds in percent of ``single``,
paired by user; p of the sign-flip test, and after Holm over the rows of one group and metric.
"""

TABLES = {"merges": MERGES_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="changes",
        table="merges",
        mark="heat",
        x=Axis("partner", "merged with"),
        y=Axis("domain", "evaluated on"),
        colour=Axis("change", "change", "%"),
        low="low",
        high="high",
        panel="way",
        choices=("group", "metric"),
        caption="Change in percent of the single-domain model's value when the t2 models of two domains are merged.",
    ),
)


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
