"""Corrections of p-values for multiple comparisons."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def holm(p_values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Holm's correction: rejecting all corrected p-values ≤ α keeps the family-wise error rate ≤ α.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
    6(2), 1979; valid under any dependence between the comparisons.

    Args:
        p_values: float64[n]; NaN for a comparison that could not be made, which is not counted.

    Returns:
        float64[n] in the given order, never smaller than the input and at most 1; NaN stays NaN.
    """
    given = np.asarray(p_values, np.float64)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
