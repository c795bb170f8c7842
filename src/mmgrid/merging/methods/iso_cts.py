"""`iso_cts`: what the sources have in common, then what each adds to it, with all singular values made equal."""

from __future__ import annotations

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
    """Δ = σ̄ U⊥ V⊥ᵀ, from the top singular directions of Σ wᵢ τᵢ and those of what each wᵢ τᵢ has outside of them.

    The common directions U₀ Σ₀ V₀ᵀ are the strongest c of the sum; the task-specific ones Uᵢ Σᵢ Vᵢᵀ the strongest s of
    (1 − U₀ U₀ᵀ) wᵢ τᵢ. U⊥ and V⊥ are the nearest matrices with orthonormal columns to [U₁ … U_N U₀] and
    [V₁ … V_N V₀], and σ̄ is the mean of all singular values Σ₁ … Σ_N, Σ₀.

    Paper: Marczak et al., "No task left behind: isotropic model merging with common and task-specific subspaces",
    ICML 2025, https://arxiv.org/abs/2502.04959 (Iso-CTS).

    Edges: of the r = min(m, n) directions of a tensor [m, n], s is (r − ⌊common · r⌋) / N, rounded (half to even) and
    at most ⌊r / N⌋, and c = r − N s. Tensors of more than two dimensions are matrices whose columns are all dimensions
    but the first (in the authors' code: averaged). Vectors and scalars get Σ wᵢ τᵢ / N, as there. All matrices are
    merged so; to average the embeddings, give them a rule with another method. Directions with a singular value of
    zero take no part, neither in the mean nor in the result: they could be anything.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        common: share of the directions that is common; 1 is `iso_c`.

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
