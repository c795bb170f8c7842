"""Ridge regression over a few features, whose penalty is chosen by leaving groups of rows out.

Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12, 1970. Features
are standardised, the intercept is not penalised, and the penalty counts per row: with 1, the coefficient of a feature
that is uncorrelated with the others is half of that by least squares. The largest one leaves little but the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgrid.studies.statistics.standardised import Floats, Standard

PENALTIES = tuple(float(penalty) for penalty in 10.0 ** np.arange(-2, 3.5, 0.5))  # 0.01 to 1000


@dataclass(frozen=True, eq=False)
class Ridge:
    """y = intercept + coefficients · standardised features.

    standard: of the F features. coefficients: float64[F].
    """

    standard: Standard
    intercept: float
    coefficients: Floats
    penalty: float

    @classmethod
    def of(cls, features: Floats, values: Floats, penalty: float) -> Ridge:
        """The minimum of Σ (y − ŷ)² + n · penalty · |coefficients|². features: float64[n, F]; values: float64[n]."""
        standard = Standard.of(features)
        scaled, mean = standard.at(features), float(values.mean())
        system = scaled.T @ scaled + len(values) * penalty * np.eye(scaled.shape[1])
        coefficients = np.linalg.solve(system, scaled.T @ (values - mean)).astype(np.float64)
        return cls(standard, mean, coefficients, penalty)

    @classmethod
    def chosen(cls, features: Floats, values: Floats, groups: Sequence[str]) -> Ridge:
        """With the penalty of `PENALTIES` that errs least, in squares, on groups that are left out one at a time.

        Among equals the largest penalty is chosen; if there is only one group, the largest of all.
        groups: the group of each row.
        """
        names = np.array(groups)
        if len(set(groups)) < 2:
            return cls.of(features, values, PENALTIES[-1])

        def error(penalty: float) -> float:
            missed = 0.0
            for group in sorted(set(groups)):
                out = names == group
                fit = cls.of(features[~out], values[~out], penalty)
                missed += float(np.square(fit.at(features[out]) - values[out]).sum())
            return missed

        return cls.of(features, values, min(reversed(PENALTIES), key=error))

    def at(self, features: Floats) -> Floats:
        """float64[…]: ŷ for float64[…, F]."""
        return self.intercept + self.standard.at(features) @ self.coefficients
