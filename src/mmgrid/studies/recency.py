"""Table 4: is the best λ for non-active users smaller where people take older items?"""

import polars as pl

from mmgrid.studies.findings import FINDINGS_SCHEMA
from mmgrid.studies.plot import Axis, Plot

RECENCY_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "test_users": pl.Int64,
        "active": pl.Int64,
        "non_active": pl.Int64,
        "active_ratio": pl.Float64,
        "best": pl.Float64,
        "best_low": pl.Float64,
        "best_high": pl.Float64,
        "gap_days": pl.Float64,
        "seed": pl.Int64,
    }
)
"""One row a domain.  ``best`` is λ* of the non-active users with its interval, null where there are none;
``gap_days`` the mean age of an item when somebody takes it, over all interactions before t2."""

TABLES = {"recency": RECENCY_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="recency",
        table="recency",
        mark="point",
        x=Axis("gap_days", "mean interaction time gap", "days"),
        y=Axis("best", "λ* of non-active users"),
        colour=Axis("domain", "domain"),
        low="best_low",
        high="best_high",
        label="domain",
        caption="The best λ of each domain's non-active users, with its interval, against the age of what people take.",
    ),
)
