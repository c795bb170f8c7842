"""`tsv_m`: the strongest singular directions of every source, orthogonalised."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
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
def tsv_m(
    tensors: Sequence[Floats], weights: Sequence[float], *, rank: Annotated[float, Field(gt=0, le=1)] | None = None
) -> Floats:
    """Δ = U⊥ Σ V⊥ᵀ, from the k strongest singular directions Uᵢ Σᵢ Vᵢᵀ of each wᵢ τᵢ, side by side.

    U = [U₁ … U_N], Σ = diag(Σ₁ … Σ_N), V = [V₁ … V_N]; U⊥ and V⊥ are the nearest matrices with orthonormal columns
    (the polar factors A Bᵀ of A S Bᵀ), so that the sources do not interfere along shared directions.

    Paper: Gargiulo et al., "Task singular vectors: reducing task interference in model merging", CVPR 2025,
    https://arxiv.org/abs/2412.00081 (TSV-Merge).

    Edges: of a tensor [m, n] each source keeps k = ⌊min(m, n) / N⌋ directions, but at least one (the authors' code
    skips the tensor if k is 0). Tensors of more than two dimensions are flattened to matrices after their first
    dimension (the authors' code averages them). Vectors and scalars get Σ wᵢ τᵢ / N, as in the authors' code. Every
    matrix is merged; to average the embeddings, give them a rule with another method. Directions with a singular value
    of zero are left out (the authors' code takes arbitrary ones), so a source of weight 0 contributes nothing.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor; they scale the task vectors before the decomposition.
        rank: directions that each source keeps, as a share of min(m, n); at least one. Default: 1 / N; 1 keeps all.

    Raises:
        MergeError: a decomposition does not converge.
    """
    if not is_matrix(tensors):
        return mean_of(tensors, weights)
    matrices = [as_matrix(tensor, weight) for tensor, weight in zip(tensors, weights, strict=True)]
    smaller = min(matrices[0].shape)
    k = smaller // len(tensors) if rank is None else share_of(rank, smaller)
    kept = [directions(matrix).top(max(k, 1)) for matrix in matrices]
    left = isometry(np.concatenate([part.left for part in kept], axis=1))
    right = isometry(np.concatenate([part.right for part in kept], axis=0))
    sizes = np.concatenate([part.sizes for part in kept])
    return as_tensor(product(left * sizes, right), tensors[0].shape)
