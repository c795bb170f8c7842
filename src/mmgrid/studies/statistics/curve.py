"""The best point of a curve that was measured at some places: of its smoothed course, and how sure that place is.

A mean over users is a rough function of λ: its highest point jumps with single users.  The curve is therefore
smoothed by local quadratic regression with tricube weights (Cleveland, "Robust locally weighted regression and
smoothing scatterplots", JASA 74, 1979, without the robustness steps), which is a fixed linear map of the measured
values.  So the resampled curves of a bootstrap are smoothed by the same map, and each gives a best place of its own.

Shapes: B users, P places, F fine places, S resamples.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmgrid.evaluation import resampled_means

Floats = npt.NDArray[np.float64]

SPAN = 0.4  # share of the places that a local fit sees
LEAST_PLACES = 7  # that a local fit sees; the two farthest have no weight, and fewer would follow the noise
STEP = 0.005  # between fine places, as in Table 4 of the paper


@dataclass(frozen=True, eq=False)
class Best:
    """Where a curve is highest.

    place: of the smoothed curve's maximum.  low, high: 95 % of the resamples' maxima lie between.
    replicates: float64[S], those maxima.  at_edge: whether `place` is the first or the last place of the range.
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
    """float64[F, P]: the map from values at `places` (distinct) to the smoothed curve at `at`."""
    return _smoother(tuple(places.tolist()), tuple(at.tolist()))


@functools.cache  # every group and domain of a sweep has the same places
def _smoother(measured: tuple[float, ...], asked: tuple[float, ...]) -> Floats:
    places, at = np.array(measured), np.array(asked)
    seen = min(len(places), max(LEAST_PLACES, int(np.ceil(SPAN * len(places)))))
    rows = np.empty((len(at), len(places)))
    for row, centre in zip(rows, at, strict=True):
        distance = np.abs(places - centre)
        # The farthest of those seen would have no weight: a hair beyond it.
        width = np.sort(distance)[seen - 1] * 1.001 + 1e-12
        root = np.sqrt(np.clip(1 - (distance / width) ** 3, 0, None) ** 3)
        powers = np.vander(places - centre, min(3, seen), increasing=True)
        row[:] = np.linalg.pinv(powers * root[:, None])[0] * root
    rows.flags.writeable = False
    return rows


def best_place(values: Floats, places: Floats, *, seed: int, samples: int = 1000) -> Best:
    """Where the mean over users is highest.

    Args:
        values: float64[B, P], one column a place; B at least 1.
        places: float64[P], rising.
        seed, samples: of the bootstrap over users.

    Raises:
        ValueError: without users.
    """
    if not len(values):
        raise ValueError("no users: nothing is best for nobody")
    fine = fine_places(places)
    weights = smoother(places, fine)
    place = float(fine[_top(values.mean(axis=0)[None], weights)[0]])
    replicates = fine[_top(resampled_means(values, seed=seed, samples=samples), weights)]
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Best(place, float(low), float(high), replicates, place in (fine[0], fine[-1]))


def _top(curves: Floats, weights: Floats) -> npt.NDArray[np.int64]:
    """int64[S]: the fine place at which each smoothed curve is highest, the first among equals."""
    return np.einsum("sp,fp->sf", curves, weights).argmax(axis=1)


def nearest(places: Floats, place: float) -> int:
    """The index of the measured place that is nearest."""
    return int(np.abs(places - place).argmin())


def crossfitted(values: Floats, places: Floats, first_half: npt.NDArray[np.bool_]) -> Floats:
    """float64[B]: each user's value at the place that is best for the other half of the users.

    So no user has a say in the place it is judged at.  A half without users chooses nothing: then all are judged at
    the place of the half that has some.
    """
    fine = fine_places(places)
    weights = smoother(places, fine)
    judged = np.empty(len(values))
    for half in (first_half, ~first_half):
        others = values[~half] if (~half).any() else values
        chosen = nearest(places, float(fine[_top(others.mean(axis=0)[None], weights)[0]]))
        judged[half] = values[half, chosen]
    return judged
