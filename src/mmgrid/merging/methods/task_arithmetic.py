"""`task_arithmetic`: the weighted sum of the task vectors, added to the base."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, sum_of_weights, summing, weighted_sum


@merge_method(needs="element", returns="delta", base="required", combining=summing("task_arithmetic"))
def task_arithmetic(tensors: Sequence[Floats], weights: Sequence[float], *, normalise: bool = False) -> Floats:
    """Δ = Σ wᵢ τᵢ with τᵢ = θᵢ − θ₀; the merged model is θ = θ₀ + λ Δ.

    Paper: Ilharco et al., "Editing models with task arithmetic", ICLR 2023, https://arxiv.org/abs/2212.04089
    (there wᵢ = 1, and λ is called the scaling coefficient).

    Edges: λ = 0 gives the base bit for bit. A negative weight negates (forgets) a task. With
    `normalise = true` the sum is divided by Σ wᵢ: the mean task vector.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        normalise: divide by Σ wᵢ.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on.
    """
    total = weighted_sum(tensors, weights)
    return np.divide(total, np.float32(sum_of_weights("task_arithmetic", weights)), out=total) if normalise else total
