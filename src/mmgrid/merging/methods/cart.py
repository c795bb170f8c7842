"""`cart`: the average of the sources plus the strongest directions in which each source deviates from it."""

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

    With the weights wᵢ, θ̄ = Σ wᵢ θᵢ / Σ wᵢ and vᵢ = N wᵢ / Σ wᵢ; with equal weights of any size this is the paper's
    method. At full rank the task vectors θᵢ − θ̄ cancel out, and at rank 0 they vanish: both give the average.

    Paper: Choi et al., "Revisiting weight averaging for model merging", 2024, https://arxiv.org/abs/2412.12153
    (CART: centered arithmetic with rank-reduced task vectors).

    Edges: k = ⌊rank · min(m, n)⌋ for a tensor [m, n], at least 1 unless `rank` is 0. Tensors of more than two
    dimensions are flattened to matrices after their first dimension. Vectors and scalars are averaged. The authors
    merge only attention and feed-forward matrices and average the rest; here every matrix is merged. To average the
    embeddings, give them a rule with `linear`. λ is an option because a method without a base takes no `scale` from
    the recipe. A single source is returned unchanged.

    Args:
        tensors: θᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        rank: rank to keep of each task vector, as a share of min(m, n).
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
