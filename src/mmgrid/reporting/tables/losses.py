"""Loss curves, thinned: a report shows how training went, not every step of it."""

from __future__ import annotations

import polars as pl

POINTS = 80
"""At most so many points a curve; each is the mean of neighbouring logged steps."""

_CURVE = ["paradigm", "domain", "phase", "seed"]


def thinned(losses: pl.DataFrame, points: int = POINTS) -> pl.DataFrame:
    """The curves with at most ``points`` points each: means of epoch and loss over equal runs of logged steps.

    Returns:
        paradigm, domain, phase, seed, epoch, loss, in the order of steps.  Losses that are not finite are left out.
    """
    finite = losses.filter(pl.col("loss").is_finite()).sort(*_CURVE, "step", maintain_order=True)
    place = pl.int_range(pl.len()).over(_CURVE)
    length = pl.len().over(_CURVE)
    return (
        finite.with_columns(_bin=pl.when(length <= points).then(place).otherwise(place * points // length))
        .group_by(*_CURVE, "_bin", maintain_order=True)
        .agg(pl.col("epoch", "loss").mean())
        .drop("_bin")
    )


def ends(losses: pl.DataFrame) -> pl.DataFrame:
    """Mean loss of the first and the last tenth of each training.

    Returns:
        paradigm, domain, phase, seed, first, last, steps, diverged.

    ``diverged`` is whether any logged loss was not finite; ``first`` and ``last`` regard the finite ones.
    """
    tenth = (pl.len() + 9) // 10
    loss = pl.col("loss")
    finite = loss.filter(loss.is_finite())
    return (
        losses.sort(*_CURVE, "step", maintain_order=True)
        .group_by(_CURVE, maintain_order=True)
        .agg(
            first=finite.head(tenth).mean(),
            last=finite.tail(tenth).mean(),
            steps=pl.len(),
            diverged=(~loss.is_finite()).any(),
        )
    )
