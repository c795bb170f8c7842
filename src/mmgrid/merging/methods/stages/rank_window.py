"""Keeping the elements between two ranks of magnitude: the trim of TIES, the outliers of breadcrumbs."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import Floats, magnitudes
from mmgrid.merging.methods.stages.base import RunThreshold, Scope, Stage, share_of
from mmgrid.merging.methods.stages.place import Place


class Trim(Stage):
    """Keep exactly the ⌊density · n⌋ largest magnitudes of each group, set the others to zero.

    Of equal magnitudes, the first in canonical order is kept: tensors by name, elements row by row.

    Paper: Yadav et al., "TIES-Merging: resolving interference when merging models", NeurIPS 2023,
    https://arxiv.org/abs/2306.01708, section 3 (there the group is the whole model).
    """

    density: float = Field(default=0.2, ge=0, le=1, description="share of the elements to keep")
    rescale: bool = Field(default=False, description="divide kept elements by the density")
    scope: Scope = Field(default="model", description="the group that is ranked together")
    least: int = Field(default=0, ge=0, description="elements to keep at least, unless the density is 0")

    def ranks(self, n: int) -> tuple[int, ...]:
        return (max(share_of(self.density, n), min(self.least, n) if self.density else 0),)

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        np.multiply(values, above(magnitudes(values), thresholds[0]), out=values)
        if self.rescale and self.density:
            values /= np.float32(self.density)
        return values


class Outliers(Stage):
    """Drop the ⌊gamma · n⌋ largest magnitudes, keep the next ⌊density · n⌋, drop the rest.

    Paper: Davari and Belilovsky, "Model breadcrumbs: scaling multi-task model merging with sparse masks", ECCV 2024,
    https://arxiv.org/abs/2312.06795.
    """

    density: float = Field(default=0.9, ge=0, le=1, description="share of the elements to keep")
    gamma: float = Field(default=0.01, ge=0, le=1, description="share of the elements to drop as the largest")
    scope: Scope = Field(default="tensor", description="the group that is ranked together")

    @model_validator(mode="after")
    def _both_fit(self) -> Self:
        if self.density + self.gamma > 1 + 1e-9:
            raise ValueError(f"density {self.density} and gamma {self.gamma} must add up to at most 1")
        return self

    def ranks(self, n: int) -> tuple[int, ...]:
        first = share_of(self.gamma, n)
        return first, min(n, first + share_of(self.density, n))

    def apply(self, values: Floats, place: Place, thresholds: Sequence[RunThreshold]) -> Floats:
        bits = magnitudes(values)
        keep = above(bits, thresholds[1])
        keep ^= above(bits, thresholds[0])  # a subset of `keep`, so XOR removes it
        return np.multiply(values, keep, out=values)


def above(bits: NDArray[np.uint32], threshold: RunThreshold) -> NDArray[np.bool_]:
    """Whether each element of a run is above a threshold."""
    chosen = take(len(bits), np.bool_)
    if threshold.equal is None:
        return np.greater_equal(bits, np.uint32(threshold.bits), out=chosen)
    np.greater(bits, np.uint32(threshold.bits), out=chosen)
    if threshold.equal:
        chosen[np.flatnonzero(bits == np.uint32(threshold.bits))[: threshold.equal]] = True
    return chosen
