"""Fig. 2: how far each checkpoint moved from the backbone, and how much the domains' task vectors conflict."""

import polars as pl

from mmgrid.studies.plot import Axis, Plot

_PART = {"part": pl.String, "tower": pl.String, "layer": pl.String}

NORMS_SCHEMA = pl.Schema(
    {"paradigm": pl.String, "domain": pl.String, "phase": pl.String}
    | _PART
    | {
        "elements": pl.Int64,
        "l1_sum": pl.Float64,
        "l1_mean": pl.Float64,
        "l2": pl.Float64,
        "zeros": pl.Float64,
        "seed": pl.Int64,
    }
)
"""One row a checkpoint and part of it: τ = Θ(phase) − Θ⁽⁰⁾ of its paradigm.

``part`` is ``whole``, ``tower`` or ``layer``; ``tower`` and ``layer`` name it and are empty otherwise.
``l1_sum`` = Σ|τ|, ``l1_mean`` = Σ|τ| / elements, ``l2`` = √Σ τ², ``zeros`` the share (0 to 1) of zero elements.
"""

PAIRS_SCHEMA = pl.Schema(
    {"paradigm": pl.String, "phase": pl.String, "first": pl.String, "second": pl.String}
    | _PART
    | {"elements": pl.Int64, "cosine": pl.Float64, "conflicts": pl.Float64, "seed": pl.Int64}
)
"""One row a pair of domains (in the order of their names), phase and part.  ``cosine`` between their task vectors;
``conflicts`` the share (0 to 1) of elements in which both are not zero and their signs differ."""

TABLES = {"norms": NORMS_SCHEMA, "pairs": PAIRS_SCHEMA}
PLOTS = (
    Plot(
        name="norms",
        table="norms",
        mark="bar",
        x=Axis("domain", "domain"),
        y=Axis("l1_mean", "mean |τ|"),
        colour=Axis("phase", "phase"),
        panel="tower",
        choices=("part",),
        keep={"part": ("whole", "tower")},
        caption="L1 norm of the task vectors, from the backbone, a weight.",
    ),
    Plot(
        name="layers",
        table="norms",
        mark="line",
        x=Axis("layer", "layer"),
        y=Axis("l1_mean", "mean |τ|"),
        colour=Axis("domain", "domain"),
        panel="tower",
        choices=("phase",),
        keep={"part": ("layer",)},
        caption="The same by layer.",
    ),
    Plot(
        name="cosines",
        table="pairs",
        mark="heat",
        x=Axis("first", "domain"),
        y=Axis("second", "domain"),
        colour=Axis("cosine", "cosine"),
        choices=("phase",),
        keep={"part": ("whole",)},
        caption="Cosine between the task vectors of two domains, over all weights.",
    ),
)
