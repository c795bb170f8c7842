"""Features in units of their standard deviation, so that days and shares weigh the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Standard:
    """Means and standard deviations of F features, each float64[F]; a constant feature has the deviation 1."""

    means: Floats
    deviations: Floats

    @classmethod
    def of(cls, features: Floats) -> Standard:
        """Those of float64[n, F]."""
        constant = (features == features[0]).all(axis=0)  # the mean of equal numbers may differ from them by a rounding
        return cls(features.mean(axis=0), np.where(constant, 1.0, features.std(axis=0)))

    def at(self, features: Floats) -> Floats:
        """float64[…, F] in these units."""
        return (features - self.means) / self.deviations
