"""Selecting the elements of a tensor with the largest values of a quantity in float64, exactly and without sorting them.

A sample shows between which two values the threshold lies. One pass counts the elements above and remembers the values
between, each with its number in every run: fine-tuning leaves few different ones.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.passes import Passes
from mmgrid.merging.methods.spread import Spread, Values
from mmgrid.merging.methods.stages.base import share_of

_SAMPLE = 64  # one element in 64 is sampled …
_SAMPLED_FROM = 1 << 14  # … of a tensor with at least this number
_LEAST = math.ulp(0.0)

Quantity = Callable[[Sequence[Floats]], Values]  # the runs of all sources → a value of 0 or more for each element


@dataclass(frozen=True)
class Selection:
    """The elements whose value is above a threshold, and the first ones that equal it.

    Attributes:
        equals: index of a run's first element → number of its selected elements that equal the threshold.
    """

    threshold: float
    equals: Mapping[int, int] = field(default_factory=dict)

    def of(self, start: int, values: Values) -> NDArray[np.bool_]:
        """Whether each element of the run that begins at `start` is selected."""
        selected = values > self.threshold
        if equal := self.equals.get(start, 0):
            selected[np.flatnonzero(values == self.threshold)[:equal]] = True
        return selected


@dataclass(frozen=True)
class _Counted:
    """A run: its elements that are not zero, those above the interval, and the values inside it with their numbers."""

    start: int
    nonzero: int
    above: int
    values: Values
    numbers: NDArray[np.int64]


def select_largest(passes: Passes, quantity: Quantity, share: float) -> Selection:
    """Selects ⌊share · n⌋ of the n elements whose value is not zero: the largest, of equal ones the first."""
    low, high = _interval(passes, quantity, share)
    while True:
        runs = passes.each(
            lambda start, vectors, low=low, high=high: _counted(passes.spread, start, quantity(vectors), low, high)
        )
        rank = share_of(share, sum(run.nonzero for run in runs))
        if not rank:
            return Selection(math.inf)
        above, inside = sum(run.above for run in runs), sum(int(run.numbers.sum()) for run in runs)
        if above < rank <= above + inside:
            return _selection(runs, rank - above)
        # The sample was misleading: the threshold is on one side of the interval.
        low, high = (math.nextafter(high, math.inf), math.inf) if rank <= above else (_LEAST, math.nextafter(low, 0))


def _interval(passes: Passes, quantity: Quantity, share: float) -> tuple[float, float]:
    """The lowest and highest value between which the threshold is expected."""
    if passes.size < _SAMPLED_FROM:
        return _LEAST, math.inf
    sample = np.sort(np.concatenate(passes.each(lambda _, vectors: quantity(vectors).copy(), every=_SAMPLE)))[::-1]
    place, margin = share * np.count_nonzero(sample), 0.002 * len(sample) + 64
    high = float(sample[int(place - margin)]) if place >= margin else math.inf
    low = float(sample[int(place + margin)]) if place + margin < len(sample) else 0.0
    return max(low, _LEAST), max(high, _LEAST)


def _counted(spread: Spread, start: int, values: Values, low: float, high: float) -> _Counted:
    nonzero, above, inside = spread.between(values, low, high)
    if low == high:
        found, numbers = np.array([low]), np.array([len(inside)])
    else:
        found, numbers = np.unique(inside, return_counts=True)
    return _Counted(start, nonzero, above, found, numbers)


def _selection(runs: Sequence[_Counted], rank: int) -> Selection:
    """The selection of the `rank` largest of the values inside the interval."""
    values, places = np.unique(np.concatenate([run.values for run in runs]), return_inverse=True)
    numbers = np.bincount(places, np.concatenate([run.numbers for run in runs])).astype(np.int64)[::-1]
    upward = np.cumsum(numbers)  # number of elements with at least each value, the largest first
    place = int(np.searchsorted(upward, rank))
    threshold, quota = float(values[::-1][place]), rank - int(upward[place] - numbers[place])
    equals = {}
    for run in runs:
        here = int(run.numbers[run.values == threshold].sum())
        equals[run.start] = min(here, quota)
        quota -= equals[run.start]
    return Selection(threshold, equals)
