"""One bit per weight: which elements of a change that all domains share belong to one domain.

θ = θ₀ + λ · m ⊙ u, where u = θ_shared − θ₀, m is the domain's mask and λ its scale.

Papers: Huang et al., "EMR-Merging: tuning-free high-performance model merging", NeurIPS 2024,
https://arxiv.org/abs/2405.17461 (elect, mask, rescale); Wang et al., "Localizing task information for improved model
merging and compression", ICML 2024, https://arxiv.org/abs/2405.07813 (TALL-masks).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats

BITS = 1


def emr_mask(own: Floats, shared: Floats) -> NDArray[np.bool_]:
    """Where a domain's change and the shared one have the same sign; not where either is zero.

    own, shared: float32, one shape.
    """
    return np.greater(np.multiply(np.sign(own), np.sign(shared)), 0)


def tall_mask(own: Floats, shared: Floats, threshold: float) -> NDArray[np.bool_]:
    """Where a domain's own change outweighs the rest of the shared one: |τ| ≥ |u − τ| · threshold."""
    rest = np.abs(np.subtract(shared, own, out=like(shared)))
    rest *= np.float32(threshold)
    return np.greater_equal(np.abs(own, out=like(own)), rest)


def masked(base: Floats, shared: Floats, mask: NDArray[np.uint8], scale: float) -> Floats:
    """θ₀ + λ · m ⊙ u of flat elements, as a new array.

    base, shared: float32, θ₀ and θ_shared. mask: 0 or 1 for each element. scale: λ, rounded to float32.
    """
    change = np.subtract(shared, base, out=like(base))
    change *= mask
    change *= np.float32(scale)
    change += base
    return change


@dataclass
class MaskSums:
    """What λ depends on: Σ|τ| and Σ|m ⊙ u| over the elements of a tensor or a model, in float64."""

    own: float = 0.0
    shared: float = 0.0

    def __iadd__(self, other: "MaskSums") -> "MaskSums":
        self.own += other.own
        self.shared += other.shared
        return self

    @classmethod
    def of(cls, own: Floats, shared: Floats, mask: NDArray[np.bool_]) -> "MaskSums":
        return cls(float(np.abs(own).sum(dtype=np.float64)), float(np.abs(shared).sum(dtype=np.float64, where=mask)))

    @property
    def scale(self) -> float:
        """λ = Σ|τ| / Σ|m ⊙ u|, as in EMR; 0 if the mask is empty."""
        return float(np.float32(self.own / self.shared)) if self.shared else 0.0
