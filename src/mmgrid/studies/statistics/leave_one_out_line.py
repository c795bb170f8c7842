"""λ predicted from the data alone: a least-squares line through other domains, and eq. 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# The paper's Table 4: mean interaction time gap in days → λ* of the non-active users.
PAPER_POINTS: Mapping[str, tuple[float, float]] = {
    "Health_and_Household": (662.9, 0.715),
    "Sports_and_Outdoors": (563.9, 0.700),
    "Movies_and_TV": (520.8, 0.985),
    "Video_Games": (418.2, 1.050),
    "Books": (336.6, 1.090),
    "Cell_Phones_and_Accessories": (362.0, 1.165),
}


@dataclass(frozen=True)
class LineFit:
    """λ* = intercept + slope · gap_days, by least squares over `n` domains."""

    slope: float
    intercept: float
    n: int

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> LineFit:
        """The line through (gap in days, λ*) of each domain.

        Raises:
            ValueError: fewer than two different gaps.
        """
        gaps, places = np.array([gap for gap, _ in points], float), np.array([best for _, best in points], float)
        if len(set(gaps.tolist())) < 2:
            raise ValueError(f"a line needs at least two domains with different gaps; there are {len(points)} domains")
        centred = gaps - gaps.mean()
        slope = float(centred @ (places - places.mean()) / (centred @ centred))
        return cls(slope, float(places.mean() - slope * gaps.mean()), len(points))

    def at(self, gap_days: float) -> float:
        """λ̃ for a domain with this gap."""
        return self.intercept + self.slope * gap_days


def left_out(points: Mapping[str, tuple[float, float]], domain: str) -> LineFit:
    """The line through all domains except `domain`. ValueError as for `LineFit.of`."""
    return LineFit.of([point for name, point in points.items() if name != domain])


def blended(predicted: float, active_ratio: float) -> float:
    """λ̂ = (1 − p) λ̃ + p, eq. 11, which assumes that λ = 1 is best for active users."""
    return (1 - active_ratio) * predicted + active_ratio
