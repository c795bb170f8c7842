"""Fig. 4, eq. 7 and 8: does another base for the task vectors cure what cross-domain merging breaks?"""

import polars as pl

from mmgrid.studies.findings import FINDINGS_SCHEMA
from mmgrid.studies.plot import Axis, Plot

CURVE_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "first": pl.String,
        "second": pl.String,
        "base": pl.String,
        "alpha": pl.Float64,
        "metric": pl.String,
        "first_value": pl.Float64,
        "first_low": pl.Float64,
        "first_high": pl.Float64,
        "second_value": pl.Float64,
        "second_low": pl.Float64,
        "second_high": pl.Float64,
        "first_single": pl.Float64,
        "second_single": pl.Float64,
        "kept": pl.Float64,
        "first_users": pl.Int64,
        "second_users": pl.Int64,
        "seed": pl.Int64,
    }
)
"""One row a pair of domains, base, α and metric.

``base`` is ``backbone``, ``historical: <domain>`` (that domain's t1 checkpoint) or ``neutral``; ``alpha`` the share
of ``first``.  ``*_value`` with bounds: percent, on each domain; ``*_single`` the domain's own model at t2 on the
same users.  ``kept`` is the mean over both domains of value / single, in percent.
"""

BEST_SCHEMA = pl.Schema(
    {
        "paradigm": pl.String,
        "first": pl.String,
        "second": pl.String,
        "base": pl.String,
        "metric": pl.String,
        "alpha": pl.Float64,
        "alpha_low": pl.Float64,
        "alpha_high": pl.Float64,
        "kept": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "gain": pl.Float64,
        "gain_low": pl.Float64,
        "gain_high": pl.Float64,
        "p": pl.Float64,
        "p_adjusted": pl.Float64,
        "seed": pl.Int64,
    }
)
"""One row a pair and base.  ``alpha`` keeps most on all users, with its interval; ``kept`` is what an α chosen on one
half of the users keeps on the other half (both ways, averaged), in percent; ``gain`` = kept − that of the backbone as
base, percentage points, paired by user, null for the backbone itself; p after Holm over the rows."""

TABLES = {"curve": CURVE_SCHEMA, "best": BEST_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="joint",
        table="curve",
        mark="path",
        x=Axis("first_value", "first domain", "percent"),
        y=Axis("second_value", "second domain", "percent"),
        colour=Axis("base", "base"),
        order="alpha",
        panel="pair",
        choices=("metric",),
        low="second_low",
        high="second_high",
        x_low="first_low",
        x_high="first_high",
        cross=("first_single", "second_single"),
        caption="What both domains get of one merged model, α from 0 to 1 along each line; up and right is better. "
        "Thin lines: each domain's own model.",
    ),
)
