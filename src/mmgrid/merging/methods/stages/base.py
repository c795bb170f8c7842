"""What a stage is: a change to one source's task vector before the sources are combined.

A stage sees the task vector run by run, in any order and on any thread; what it does to an element may depend on
the element, its place, the random number that belongs to that place, and on cuts: facts on the whole tensor, tower
or model that the engine gathers beforehand.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from mmgrid.merging.arrays.floats import Floats

Unit = Literal["element", "row"]
Scope = Literal["model", "tower", "tensor"]


@dataclass(frozen=True)
class Place:
    """Where a run of elements lies: elements [start, start + n) of a tensor of `shape`, in row-major order."""

    source: str
    tensor: str
    start: int
    shape: tuple[int, ...]
    depth: float  # 0 in the first layer, 1 in the last
    seed: int
    stage: int  # number of the stage, so that two stages draw different numbers

    @property
    def row(self) -> int:
        """Elements of a row: of the last dimension; a vector is one row."""
        return self.shape[-1] if self.shape else 1


@dataclass(frozen=True)
class Cut:
    """The border of the `rank` largest magnitudes of a group, as it falls on one run of elements.

    An element is above the cut if the bits of its magnitude are greater than `bits`, or equal to them and it is
    one of the run's first `equal` such elements (None: all of them are).
    """

    bits: int
    equal: int | None


class Stage(BaseModel, ABC):
    """One stage with its options. Subclasses are pydantic models, so recipes can name them.

    Attributes:
        unit: what a run must hold whole: single elements, or rows.
        scope: over what ranks are taken, for stages with `ranks`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    unit: ClassVar[Unit] = "element"
    scope: Scope = "model"

    def ranks(self, n: int) -> tuple[int, ...]:
        """The ranks (numbers of largest elements) whose cuts `apply` wants, of a group of `n` elements."""
        return ()

    @abstractmethod
    def apply(self, values: Floats, place: Place, cuts: Sequence[Cut]) -> Floats:
        """The changed run, flat; may change `values` itself. `cuts` in the order of `ranks`."""


def share_of(share: float, n: int) -> int:
    """⌊share · n⌋ with `share` taken as the decimal that it is written as: 0.29 of 100 is 29."""
    return math.floor(Fraction(repr(float(share))) * n)
