"""Keep what lies between two ranks of magnitude: the trim of TIES, the outliers of breadcrumbs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import Floats, magnitudes
from mmgrid.merging.methods.stages.base import Cut, Place, Scope, Stage, share_of


class Trim(Stage):
    """Keep exactly the ⌊density · n⌋ largest magnitudes of each group, set the others to zero.

    Among equals the lower index wins, in canonical order: tensors by name, elements row by row.
    Paper: Yadav et al., "TIES-Merging: resolving interference when merging models", NeurIPS 2023,
    https://arxiv.org/abs/2306.01708, section 3 (there one group: the whole model).
    """

    density: float = Field(default=0.2, ge=0, le=1, description="share of elements that is kept")
    rescale: bool = Field(default=False, description="divide what is kept by the density")
    scope: Scope = Field(default="model", description="what one threshold is for")

    def ranks(self, n: int) -> tuple[int, ...]:
        return (share_of(self.density, n),)

    def apply(self, values: Floats, place: Place, cuts: Sequence[Cut]) -> Floats:
        np.multiply(values, above(magnitudes(values), cuts[0]), out=values)
        if self.rescale and self.density:
            values /= np.float32(self.density)
        return values


class Outliers(Stage):
    """Leave out the ⌊gamma · n⌋ largest magnitudes, keep the next ⌊density · n⌋, set the others to zero.

    Paper: Davari and Belilovsky, "Model breadcrumbs: scaling multi-task model merging with sparse masks", ECCV 2024,
    https://arxiv.org/abs/2312.06795.
    """

    density: float = Field(default=0.9, ge=0, le=1, description="share of elements that is kept")
    gamma: float = Field(default=0.01, ge=0, le=1, description="share of the largest elements that is left out")
    scope: Scope = Field(default="tensor", description="what the thresholds are for")

    @model_validator(mode="after")
    def _both_fit(self) -> Outliers:
        if self.density + self.gamma > 1 + 1e-9:
            raise ValueError(f"density {self.density} and gamma {self.gamma} must add up to at most 1")
        return self

    def ranks(self, n: int) -> tuple[int, ...]:
        first = share_of(self.gamma, n)
        return first, min(n, first + share_of(self.density, n))

    def apply(self, values: Floats, place: Place, cuts: Sequence[Cut]) -> Floats:
        bits = magnitudes(values)
        keep = above(bits, cuts[1])
        keep ^= above(bits, cuts[0])  # which are among them
        return np.multiply(values, keep, out=values)


def above(bits: NDArray[np.uint32], cut: Cut) -> NDArray[np.bool_]:
    """Which elements of a run lie above a cut."""
    chosen = take(len(bits), np.bool_)
    if cut.equal is None:
        return np.greater_equal(bits, np.uint32(cut.bits), out=chosen)
    np.greater(bits, np.uint32(cut.bits), out=chosen)
    if cut.equal:
        chosen[np.flatnonzero(bits == np.uint32(cut.bits))[: cut.equal]] = True
    return chosen
