"""The maximum of a smoothed curve that was measured at some places, with a bootstrap interval.

A mean over users is a noisy function of λ: single users move its maximum. The curve is therefore smoothed by local
quadratic regression with tricube weights (Cleveland, "Robust locally weighted regression and smoothing scatterplots",
JASA 74, 1979, without the robustness steps). This is a fixed linear map of the measured values, so the same map smooths
every resampled curve of the bootstrap, and each gives its own maximum.

Shapes: B users, P places, F fine places, S resamples.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmgrid.evaluation import resampled_means

Floats = npt.NDArray[np.float64]

SPAN = 0.4  # share of the places in a local fit
LEAST_PLACES = 7  # places in a local fit, at least; fewer would follow the noise
STEP = 0.005  # between fine places, as in Table 4 of the paper


@dataclass(frozen=True, eq=False)
class Best:
    """Where a curve is highest.

    Attributes:
        place: the maximum of the smoothed curve.
        low, high: the bounds of its 95 % bootstrap interval.
        replicates: float64[S], the maxima of the resampled curves.
        at_edge: whether `place` is the first or the last place of the range.
    """

    place: float
    low: float
    high: float
    replicates: Floats
    at_edge: bool


def fine_places(places: Floats) -> Floats:
    """float64[F]: multiples of `STEP` from the first to the last place."""
    first, last = round(float(places.min()) / STEP), round(float(places.max()) / STEP)
    return np.arange(first, last + 1, dtype=np.float64) * STEP


def smoother(places: Floats, at: Floats) -> Floats:
    """float64[F, P]: the linear map from values at `places` (distinct) to the smoothed curve at `at`."""
    return _smoother(tuple(places.tolist()), tuple(at.tolist()))


@functools.cache  # every group and domain of a sweep has the same places
def _smoother(measured: tuple[float, ...], wanted: tuple[float, ...]) -> Floats:
    places, at = np.array(measured), np.array(wanted)
    seen = min(len(places), max(LEAST_PLACES, int(np.ceil(SPAN * len(places)))))
    rows = np.empty((len(at), len(places)))
    for row, centre in zip(rows, at, strict=True):
        distance = np.abs(places - centre)
        # Slightly wider than the farthest place in the fit, which would otherwise get no weight.
        width = np.sort(distance)[seen - 1] * 1.001 + 1e-12
        root = np.sqrt(np.clip(1 - (distance / width) ** 3, 0, None) ** 3)
        powers = np.vander(places - centre, min(3, seen), increasing=True)
        row[:] = np.linalg.pinv(powers * root[:, None])[0] * root
    rows.flags.writeable = False
    return rows


def best_place(values: Floats, places: Floats, *, seed: int, samples: int = 1000) -> Best:
    """Where the mean over users is highest.

    Args:
        values: float64[B, P], one column per place; B at least 1.
        places: float64[P], ascending.
        seed, samples: of the bootstrap over users.

    Raises:
        ValueError: there are no users.
    """
    if not len(values):
        raise ValueError("no users: the best place is undefined")
    fine = fine_places(places)
    weights = smoother(places, fine)
    place = float(fine[_top(values.mean(axis=0)[None], weights)[0]])
    replicates = fine[_top(resampled_means(values, seed=seed, samples=samples), weights)]
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Best(place, float(low), float(high), replicates, place in (fine[0], fine[-1]))


def _top(curves: Floats, weights: Floats) -> npt.NDArray[np.int64]:
    """int64[S]: the index of the fine place at which each smoothed curve is highest, the first among equals."""
    return np.einsum("sp,fp->sf", curves, weights).argmax(axis=1)


def nearest(places: Floats, place: float) -> int:
    """The index of the measured place nearest to `place`."""
    return int(np.abs(places - place).argmin())


def crossfitted(values: Floats, places: Floats, first_half: npt.NDArray[np.bool_]) -> Floats:
    """float64[B]: each user's value at the place that is best for the other half of the users.

    No user influences the place at which it is evaluated. If one half is empty, the other is evaluated at its own best
    place.
    """
    judged = np.empty(len(values))
    for half in (first_half, ~first_half):
        others = values[~half] if (~half).any() else values
        judged[half] = values[half, chosen_place(others, places)]
    return judged


def chosen_place(values: Floats, places: Floats) -> int:
    """The index of the measured place nearest to the maximum of the smoothed mean over users, float64[B, P]."""
    fine = fine_places(places)
    return nearest(places, float(fine[_top(values.mean(axis=0)[None], smoother(places, fine))[0]]))
