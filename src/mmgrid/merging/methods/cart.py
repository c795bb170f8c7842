"""`cart`: the average of the sources, and on from there along the strongest directions in which each leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, sum_of_weights
from mmgrid.merging.methods.linear_algebra import as_matrix, as_tensor, directions, is_matrix
from mmgrid.merging.methods.stages.base import share_of


@merge_method(needs="tensor", returns="weights", base="none")
def cart(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    rank: Annotated[float, Field(ge=0, le=1)] = 0.08,
    strength: float = 1.0,
) -> Floats:
    """θ = θ̄ + λ Σ vᵢ SVD_k(θᵢ − θ̄), where θ̄ is the average of the sources and SVD_k the nearest matrix of rank k.

    With the weights wᵢ, θ̄ = Σ wᵢ θᵢ / Σ wᵢ and vᵢ = N wᵢ / Σ wᵢ: equal weights of any size are the paper's method. At
    full rank the task vectors cancel out, and at rank 0 there are none: both give the average.

    Paper: Choi et al., "Revisiting weight averaging for model merging", 2024, https://arxiv.org/abs/2412.12153
    (CART: centered arithmetic with rank-reduced task vectors).

    Edges: k = ⌊rank · min(m, n)⌋ for a tensor [m, n], at least 1 unless `rank` is 0. Tensors of more than two
    dimensions are matrices whose columns are all dimensions but the first. Vectors and scalars are averaged, which is
    what task vectors of full rank come to. The authors leave all but attention and feed-forward matrices averaged;
    here all matrices are merged so: to average the embeddings, give them a rule with `linear`. λ is an option, since
    without a base there is no delta for the recipe's scale. One source is returned as it is.

    Args:
        tensors: θᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        rank: share of min(m, n) that is kept of each task vector.
        strength: λ; 0 gives the average.

    Raises:
        MergeError: Σ wᵢ is zero, or a decomposition does not converge.
    """
    total = sum_of_weights("cart", weights, remedy="change them")
    shares = [weight / total for weight in weights]
    mean = np.zeros(tensors[0].shape)
    for tensor, share in zip(tensors, shares, strict=True):
        mean += np.multiply(tensor, share, dtype=np.float64)
    if rank == 0 or strength == 0 or not is_matrix(tensors):
        return as_tensor(mean, mean.shape)
    centre = as_matrix(mean)
    k = max(share_of(rank, min(centre.shape)), 1)
    result = centre.copy()
    for tensor, share in zip(tensors, shares, strict=True):
        result += len(tensors) * share * strength * directions(as_matrix(tensor) - centre).top(k).matrix()
    return as_tensor(result, tensors[0].shape)
