"""`iso_cts`: common and task-specific singular directions, with all singular values set to their mean."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.iso_c import summed
from mmgrid.merging.methods.linear_algebra import (
    as_matrix,
    as_tensor,
    directions,
    is_matrix,
    isometry,
    mean_of,
    product,
)
from mmgrid.merging.methods.stages.base import share_of


@merge_method(needs="tensor", returns="delta", base="required")
def iso_cts(
    tensors: Sequence[Floats], weights: Sequence[float], *, common: Annotated[float, Field(ge=0, le=1)] = 0.8
) -> Floats:
    """Δ = σ̄ U⊥ V⊥ᵀ, from the top singular directions of Σ wᵢ τᵢ and of each wᵢ τᵢ projected off them.

    The common directions U₀ Σ₀ V₀ᵀ are the c strongest of the sum; the task-specific ones Uᵢ Σᵢ Vᵢᵀ are the s strongest
    of (1 − U₀ U₀ᵀ) wᵢ τᵢ. U⊥ and V⊥ are the nearest matrices with orthonormal columns to [U₁ … U_N U₀] and
    [V₁ … V_N V₀], and σ̄ is the mean of all singular values Σ₁ … Σ_N, Σ₀.

    Paper: Marczak et al., "No task left behind: isotropic model merging with common and task-specific subspaces",
    ICML 2025, https://arxiv.org/abs/2502.04959 (Iso-CTS).

    Edges: a tensor [m, n] has r = min(m, n) directions. s = (r − ⌊common · r⌋) / N, rounded half to even and at most
    ⌊r / N⌋; c = r − N s. Tensors of more than two dimensions are flattened to matrices after their first dimension
    (the authors' code averages them). Vectors and scalars get Σ wᵢ τᵢ / N, as in the authors' code. Every matrix is
    merged; to average the embeddings, give them a rule with another method. Directions with a singular value of zero
    enter neither the mean nor the result, because they are arbitrary.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        common: share of common directions; 1 gives `iso_c`.

    Raises:
        MergeError: a decomposition does not converge.
    """
    if not is_matrix(tensors):
        return mean_of(tensors, weights)
    total, n = summed(tensors, weights), len(tensors)
    smaller = min(total.shape)
    specific = min(round((smaller - share_of(common, smaller)) / n), smaller // n)
    shared = directions(total).top(smaller - n * specific)
    kept = [shared]
    for tensor, weight in zip(tensors, weights, strict=True):
        matrix = as_matrix(tensor, weight)
        outside = matrix - product(shared.left, product(shared.left.T, matrix))
        kept.append(directions(outside, float(np.linalg.norm(matrix))).top(specific))
    left = isometry(np.concatenate([part.left for part in kept], axis=1))
    right = isometry(np.concatenate([part.right for part in kept], axis=0))
    sizes = np.concatenate([part.sizes for part in kept])
    mean = sizes.mean() if len(sizes) else 0.0
    return as_tensor(mean * product(left, right), tensors[0].shape)
