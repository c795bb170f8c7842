"""A λ for a deployment that has no labels yet: what it is, what it rests on, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmgrid.studies.statistics.leave_one_out_line import LineFit, blended, left_out

LEAST_POINTS = 3  # of other domains; with fewer the paper's are taken


@dataclass(frozen=True)
class PredictedScale:
    """λ̂ for one domain.

    Attributes:
        scale: λ̂ = (1 − p) λ̃ + p, eq. 11.
        predicted: λ̃, of the line, for the users who are not active.
        active_ratio: p, as it was one phase earlier.
        gap_days: mean age of an item when somebody takes it, over all interactions before t2.
        line: λ̃ = intercept + slope · gap.
        points: the domains that the line goes through: gap in days and λ*.
        source: where they come from, in words.
        error: mean distance of the line from λ* of a domain that was left out of it.
        error_of_mean: the same when the mean λ* of the other domains is taken instead of the line.
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
        """Whether the gap lies outside of those that the line has seen."""
        gaps = [gap for gap, _ in self.points.values()]
        return not min(gaps) <= self.gap_days <= max(gaps)

    def sentences(self) -> list[str]:
        """How far to trust it."""
        share = 1 - self.active_ratio
        words = [
            f"λ̃ = {self.predicted:.3f} is what the line through {len(self.points)} domains ({self.source}) predicts "
            f"for users who were not active of late; the {100 * self.active_ratio:.0f} % active ones count with λ = 1.",
            f"The line misses λ* of a domain that it has not seen by {self.error:.2f} on average, which moves λ̂ by "
            f"{share * self.error:.2f} here; the mean of the other domains misses it by {self.error_of_mean:.2f}.",
        ]
        if self.error >= self.error_of_mean:
            words.append("So the gap tells nothing here that the mean does not: do not rest anything on it.")
        if self.extrapolates:
            words.append(
                f"A gap of {self.gap_days:.0f} days lies outside of what the line has seen: this is an extrapolation."
            )
        if abs(self.scale - 1) <= share * self.error:
            words.append(
                "λ = 1, the newest checkpoint as it is, lies within that error: there is no case for leaving it."
            )
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
        points: domain → mean gap in days and λ* of the non-active users; `domain` itself is left out.

    Raises:
        ValueError: fewer than `LEAST_POINTS` other domains, or all with one gap.
    """
    others = {name: point for name, point in points.items() if name != domain}
    if len(others) < LEAST_POINTS:
        raise ValueError(
            f"{domain}: {len(others)} other domains have a λ*; a line that can be tested needs {LEAST_POINTS}"
        )
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
