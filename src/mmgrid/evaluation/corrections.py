"""P-values of many comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def holm(p_values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P-values such that rejecting those at most α keeps the chance of any false rejection at most α.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
    6(2), 1979; no assumption on how the comparisons depend on each other.

    Args:
        p_values: float64[n]; NaN for a comparison that could not be made, which counts for nothing.

    Returns:
        float64[n] in the order given, never smaller than what was given and at most 1; NaN stays.
    """
    given = np.asarray(p_values, np.float64)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
