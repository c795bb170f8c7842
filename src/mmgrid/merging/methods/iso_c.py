"""`iso_c`: the sum of the task vectors, with all singular values set to their mean."""

from collections.abc import Sequence

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.linear_algebra import Matrix, as_matrix, as_tensor, directions, is_matrix, mean_of, product


@merge_method(needs="tensor", returns="delta", base="required")
def iso_c(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Δ = σ̄ U Vᵀ, where U Σ Vᵀ = Σ wᵢ τᵢ, and σ̄ is the mean of its singular values.

    Paper: Marczak et al., "No task left behind: isotropic model merging with common and task-specific subspaces",
    ICML 2025, https://arxiv.org/abs/2502.04959 (Iso-C).

    Edges: tensors of more than two dimensions are flattened to matrices after their first dimension (the authors' code
    averages them). Vectors and scalars get Σ wᵢ τᵢ / N, as in the authors' code. Every matrix is merged; to average
    the embeddings, give them a rule with another method. Singular values of zero enter neither the mean nor the result,
    because their singular vectors are arbitrary (the authors' code uses them).

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.

    Raises:
        MergeError: the decomposition does not converge.
    """
    if not is_matrix(tensors):
        return mean_of(tensors, weights)
    total = directions(summed(tensors, weights))
    mean = total.sizes.mean() if len(total.sizes) else 0.0
    return as_tensor(mean * product(total.left, total.right), tensors[0].shape)


def summed(tensors: Sequence[Floats], weights: Sequence[float]) -> Matrix:
    """Σ wᵢ τᵢ as a matrix in float64."""
    total = as_matrix(tensors[0], weights[0])
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += as_matrix(tensor, weight)
    return total
