"""A stage: a change to one source's task vector before the sources are combined.

A stage processes the task vector run by run, in any order and on any thread. The result for an element may depend only
on the element, its place, the random number of that place, and on thresholds over the whole tensor, tower or model,
which the engine finds in advance.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from mmgrid.frozen import Frozen
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.stages.place import Place

Unit = Literal["element", "row", "tensor"]
Scope = Literal["model", "tower", "tensor"]


@dataclass(frozen=True)
class RunThreshold:
    """The threshold that separates the largest magnitudes of a group from the rest, for one run of elements.

    An element is above the threshold if the bits of its magnitude are greater than `bits`, or if they equal `bits` and
    the element is among the first `equal` such elements of the run (None: all such elements are above).
    """

    bits: int
    equal: int | None


class Stage(Frozen, ABC):
    """One stage with its options. Subclasses are pydantic models, so recipes can name them.

    Attributes:
        unit: the smallest part that a run must not split: an element, a row, or the tensor.
        scope: the group that is ranked together, for stages with `ranks`.
        random: whether `apply` draws random numbers, so that another seed gives another result.
    """

    unit: ClassVar[Unit] = "element"
    random: ClassVar[bool] = False
    scope: Scope = "model"

    def ranks(self, n: int) -> tuple[int, ...]:
        """The ranks (numbers of largest elements) whose thresholds `apply` needs, for a group of `n` elements."""
        return ()

    @abstractmethod
    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        """The changed run, flat. May change `values` in place. `thresholds` are in the order of `ranks`."""


def share_of(share: float, n: int) -> int:
    """⌊share · n⌋, with `share` as the decimal number that it prints as: 0.29 of 100 is 29."""
    return math.floor(Fraction(repr(float(share))) * n)
