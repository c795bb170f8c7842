"""Thins loss curves for the figure, and compares the start and the end of each training."""

import polars as pl

POINTS = 80
"""Points per curve at most."""

_CURVE = ["paradigm", "domain", "phase", "seed"]


def thinned(losses: pl.DataFrame, points: int = POINTS) -> pl.DataFrame:
    """The curves with at most `points` points each: means over equally long runs of logged steps.

    Args:
        losses: `mmgrid.reporting.inputs.LOSSES_SCHEMA`. Losses that are not finite are left out.
        points: per curve.

    Returns:
        paradigm, domain, phase, seed, epoch, loss, in the order of steps.
    """
    finite = losses.filter(pl.col("loss").is_finite()).sort(*_CURVE, "step", maintain_order=True)
    index = pl.int_range(pl.len()).over(_CURVE)
    length = pl.len().over(_CURVE)
    return (
        finite.with_columns(_bin=pl.when(length <= points).then(index).otherwise(index * points // length))
        .group_by(*_CURVE, "_bin", maintain_order=True)
        .agg(pl.col("epoch", "loss").mean())
        .drop("_bin")
    )


def ends(losses: pl.DataFrame) -> pl.DataFrame:
    """The mean loss of the first and of the last tenth of each training's logged steps.

    Returns:
        paradigm, domain, phase, seed, first, last, steps, diverged. `first` and `last` are means of finite losses;
        `diverged` is whether any logged loss was not finite.
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
