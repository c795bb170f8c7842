"""The mean of the rows whose features are nearest."""

import numpy as np

from mmgrid.studies.statistics.standardised import Floats, Standard

NEIGHBOURS = 3


def nearest_mean(features: Floats, values: Floats, at: Floats, neighbours: int = NEIGHBOURS) -> float:
    """The mean value of the rows nearest to `at` by Euclidean distance of standardised features.

    Args:
        features: float64[n, F].
        values: float64[n].
        at: float64[F].
        neighbours: how many; all rows if there are fewer. Of equally near rows, the first count.
    """
    standard = Standard.of(features)
    distances = np.square(standard.at(features) - standard.at(at)).sum(axis=1)
    return float(values[np.argsort(distances, kind="stable")[:neighbours]].mean())
