"""Table 3, eq. 11: λ predicted from the data alone, by a line that has never seen the domain."""

import polars as pl

from mmgrid.studies.findings import FINDINGS_SCHEMA
from mmgrid.studies.plot import Axis, Plot

PREDICTIONS_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "gap_days": pl.Float64,
        "active_ratio": pl.Float64,
        "active_ratio_before": pl.Float64,
        "best": pl.Float64,
        "predicted": pl.Float64,
        "scale": pl.Float64,
        "scale_before": pl.Float64,
        "slope": pl.Float64,
        "intercept": pl.Float64,
        "n_domains": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row a domain that was left out.

``best`` is its own λ* (non-active users), ``predicted`` λ̃ of the line through the ``n_domains`` others
(λ* = intercept + slope · gap_days), ``scale`` λ̂ = (1 − p) λ̃ + p with p = ``active_ratio`` over the test users;
``scale_before`` the same with p estimated one phase earlier, as a deployment without labels must.
"""

COMPARISON_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "metric": pl.String,
        "scale": pl.Float64,
        "value_at_one": pl.Float64,
        "value": pl.Float64,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_adjusted": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row a domain and metric: the model at λ̂ against λ = 1 on all test users; percent and percentage points, paired
by user; p of the sign-flip test, and after Holm over the rows of a metric."""

TABLES = {"predictions": PREDICTIONS_SCHEMA, "comparison": COMPARISON_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="gains",
        table="comparison",
        mark="point",
        x=Axis("difference", "λ̂ minus λ = 1", "percentage points"),
        y=Axis("domain", "domain"),
        colour=Axis("domain", "domain"),
        x_low="low",
        x_high="high",
        choices=("metric",),
        reference=0.0,
        caption="What the predicted λ̂ gains over the newest checkpoint, paired by user, with 95 % intervals.",
    ),
)
