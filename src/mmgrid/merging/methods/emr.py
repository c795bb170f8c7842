"""`emr`: for each element the elected sign, and the largest magnitude among the task vectors that agree with it."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, weighted_sum


@merge_method(needs="element", returns="delta", base="required")
def emr(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Δ = γ ⊙ max wᵢ |τᵢ| over the sources with sign γ, where γ = sgn Σ wᵢ τᵢ, element by element.

    The unified task vector of EMR. It is meant for a family whose parts are masks (`mmgrid merge --family`): the mask
    of a source keeps the elements of its own sign, and a scale brings them back to its size.

    Paper: Huang et al., "EMR-Merging: tuning-free high-performance model merging", NeurIPS 2024,
    https://arxiv.org/abs/2405.17461, section 3.2 (there without weights).

    Edges: a sum of zero counts as positive (the authors' code: negative). An element that no source of the elected sign
    changed is 0.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
    """
    votes = weighted_sum(tensors, weights)
    negative = votes < 0
    largest, own = like(votes), like(votes)
    largest.fill(0)
    for tensor, weight in zip(tensors, weights, strict=True):
        np.multiply(tensor, np.float32(weight), out=own)
        np.negative(own, out=own, where=negative)
        np.maximum(largest, own, out=largest)
    return np.negative(largest, out=largest, where=negative)
