"""`linear`: the weighted average of the parameters, equal weights by default."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, sum_of_weights, summing, weighted_sum


@merge_method(needs="element", returns="weights", base="none", combining=summing("linear"))
def linear(tensors: Sequence[Floats], weights: Sequence[float], *, normalise: bool = True) -> Floats:
    """θ = Σ wᵢ θᵢ / Σ wᵢ, element by element.

    Paper: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
    without increasing inference time", ICML 2022, https://arxiv.org/abs/2203.05482 (its uniform soup has wᵢ = 1).

    Edges: with `normalise = false` the sum is not divided, so weights that do not add up to 1 change the
    norm of the parameters. Negative weights extrapolate. One source with weight 1 is returned bit for bit.

    Args:
        tensors: θᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        normalise: divide by Σ wᵢ.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on.
    """
    total = weighted_sum(tensors, weights)
    return np.divide(total, np.float32(sum_of_weights("linear", weights)), out=total) if normalise else total
