"""Table 2: how good each paradigm is at t2, and whether it beats popularity and SASRec on the same users."""

import polars as pl

from mmgrid.evaluation import RESULTS_SCHEMA
from mmgrid.studies.plot import Axis, Plot

SCORES_SCHEMA = RESULTS_SCHEMA
COMPARISONS_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "model": pl.String,
        "reference": pl.String,
        "metric": pl.String,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_adjusted": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""``paradigm`` at t2 minus ``reference`` (``popularity``, ``sasrec``, ``sasrec (in one go)``), percentage points,
paired by user, over all test users; p of the sign-flip test, and after Holm over the rows of the table."""

TABLES = {"scores": SCORES_SCHEMA, "comparisons": COMPARISONS_SCHEMA}
PLOTS = (
    Plot(
        name="comparisons",
        table="comparisons",
        mark="point",
        x=Axis("difference", "difference", "percentage points"),
        y=Axis("domain", "domain"),
        colour=Axis("reference", "compared with"),
        x_low="low",
        x_high="high",
        choices=("metric",),
        reference=0.0,
        caption="The paradigm at t2 minus each reference, paired by user, with 95 % intervals.",
    ),
)
