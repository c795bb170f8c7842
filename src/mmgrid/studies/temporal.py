"""Fig. 5, eq. 9 and 10: how much of the newest phase to trust, for all, active and non-active users."""

import polars as pl

from mmgrid.studies.findings import FINDINGS_SCHEMA
from mmgrid.studies.plot import Axis, Plot

CURVE_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "scale": pl.Float64,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "smooth": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row a domain, group, metric and λ: Θ(t1) + λ (Θ(t2) − Θ(t1)); percent; ``smooth`` the smoothed curve there."""

BEST_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "domain": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "best": pl.Float64,
        "best_low": pl.Float64,
        "best_high": pl.Float64,
        "at_edge": pl.Boolean,
        "value_at_best": pl.Float64,
        "value_at_one": pl.Float64,
        "value_at_zero": pl.Float64,
        "gain": pl.Float64,
        "gain_low": pl.Float64,
        "gain_high": pl.Float64,
        "p": pl.Float64,
        "p_adjusted": pl.Float64,
        "n_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row a domain and group.  ``best`` is λ* (the smoothed curve's maximum, in steps of 0.005) with the interval of
its bootstrap over users; ``at_edge`` if it lies at an end of the range that was tried.  ``value_at_*``: percent, as
measured at the nearest λ that was tried.  ``gain``: λ chosen on one half of the users minus λ = 1, measured on the
other half (both ways, averaged), percentage points; p of the sign-flip test, and after Holm over the rows."""

TABLES = {"curve": CURVE_SCHEMA, "best": BEST_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="curves",
        table="curve",
        mark="line",
        x=Axis("scale", "λ"),
        y=Axis("value", "value", "percent"),
        colour=Axis("group", "users"),
        panel="domain",
        low="low",
        high="high",
        choices=("metric",),
        rules=("best", "best"),
        reference=1.0,
        caption="Between and beyond the checkpoints at t1 (λ = 0) and t2 (λ = 1); dashed: the best λ of each group.",
    ),
)
