"""A predicted λ for a deployment without labels: its value, its inputs, and how reliable it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmgrid.studies.statistics.leave_one_out_line import LineFit, blended, left_out

LEAST_POINTS = 3  # other domains needed for a line; with fewer, callers use the points of the paper


@dataclass(frozen=True)
class PredictedScale:
    """λ̂ for one domain.

    Attributes:
        scale: λ̂ = (1 − p) λ̃ + p, eq. 11.
        predicted: λ̃ of the line, for non-active users.
        active_ratio: p, measured one phase earlier.
        gap_days: mean interaction time gap, over all interactions before t2.
        line: λ̃ = intercept + slope · gap.
        points: domain → gap in days and λ*, for the domains that the line is fitted to.
        source: where these points come from, as a phrase.
        error: mean absolute leave-one-out error of the line.
        error_of_mean: the same for the mean λ* of the other domains in place of the line.
    """

    domain: str
    scale: float
    predicted: float
    active_ratio: float
    gap_days: float
    line: LineFit
    points: Mapping[str, tuple[float, float]]
    source: str
    error: float
    error_of_mean: float

    @property
    def extrapolates(self) -> bool:
        """Whether the gap lies outside the range of the points."""
        gaps = [gap for gap, _ in self.points.values()]
        return not min(gaps) <= self.gap_days <= max(gaps)

    def sentences(self) -> list[str]:
        """Sentences that say how reliable the prediction is."""
        share = 1 - self.active_ratio
        words = [
            f"λ̃ = {self.predicted:.3f} for non-active users is predicted by a line through {len(self.points)} domains "
            f"({self.source}); the active users ({100 * self.active_ratio:.0f} %) count with λ = 1.",
            f"On a left-out domain the line errs by {self.error:.2f} on average, which would move λ̂ by "
            f"{share * self.error:.2f} here; the mean of the other domains errs by {self.error_of_mean:.2f}.",
        ]
        if self.error >= self.error_of_mean:
            words.append("The line is no better than the mean of the other domains: do not rely on this prediction.")
        if self.extrapolates:
            words.append(
                f"The gap of {self.gap_days:.0f} days is outside the other domains' range: this is an extrapolation."
            )
        if abs(self.scale - 1) <= share * self.error:
            words.append("λ = 1, the newest checkpoint, lies within this error: there is no reason to change it.")
        return words


def predict_scale(
    domain: str,
    gap_days: float,
    active_ratio: float,
    points: Mapping[str, tuple[float, float]],
    source: str,
) -> PredictedScale:
    """λ̂ from the data alone.

    Args:
        points: domain → mean gap in days and λ* of non-active users; `domain` itself is ignored.

    Raises:
        ValueError: fewer than `LEAST_POINTS` other domains, or all with the same gap.
    """
    others = {name: point for name, point in points.items() if name != domain}
    if len(others) < LEAST_POINTS:
        raise ValueError(f"{domain}: only {len(others)} other domains have a λ*; the line needs {LEAST_POINTS}")
    line = LineFit.of(list(others.values()))
    predicted = line.at(gap_days)
    misses, misses_of_mean = [], []
    for name, (gap, best) in others.items():
        rest = [place for other, (_, place) in others.items() if other != name]
        misses.append(abs(left_out(others, name).at(gap) - best))
        misses_of_mean.append(abs(float(np.mean(rest)) - best))
    return PredictedScale(
        domain=domain,
        scale=blended(predicted, active_ratio),
        predicted=predicted,
        active_ratio=active_ratio,
        gap_days=gap_days,
        line=line,
        points=others,
        source=source,
        error=float(np.mean(misses)),
        error_of_mean=float(np.mean(misses_of_mean)),
    )
