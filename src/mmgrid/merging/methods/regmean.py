"""`regmean`: the linear layers whose outputs are closest to those of every model on its own inputs."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method, sum_of_weights, weighted_sum
from mmgrid.merging.methods.linear_algebra import Matrix, as_tensor, product, solution


@merge_method(needs="tensor", returns="weights", base="optional", statistics="gram")
def regmean(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    statistics: Sequence[Floats] | None,
    *,
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.9,
    damping: Annotated[float, Field(ge=0)] = 1e-6,
) -> Floats:
    """θ = (Σ wᵢ θᵢ Gᵢ) (Σ wᵢ Gᵢ)⁻¹ for a linear layer; Gᵢ is the mean of x xᵀ over the layer's inputs x in model i.

    It minimises Σ wᵢ E ‖(θ − θᵢ) x‖² over the inputs x of each model. With a base, the task vectors τᵢ take the place of
    θᵢ, and the base is added, which gives the same. `mmgrid learn regmean` measures Gᵢ.

    Paper: Jin et al., "Dataless knowledge fusion by merging weights of language models", ICLR 2023,
    https://arxiv.org/abs/2212.09849.

    Edges: tensors without statistics (embeddings, norms, biases) are the weighted mean Σ wᵢ θᵢ / Σ wᵢ, as in the paper.
    Inputs that are always zero have no influence; `damping` makes their columns the mean, and the inverse exist. Computed
    in float64.

    Args:
        tensors: θᵢ [m, d] (τᵢ with a base), float32, one shape.
        weights: wᵢ, one per tensor, zero or more.
        statistics: Gᵢ [d, d]; None for a tensor without.
        alpha: factor on the off-diagonal elements of Gᵢ; the paper's default, below 1 so that inputs count less as one.
        damping: added to the diagonal of every Gᵢ, times the mean diagonal of all of them.

    Raises:
        MergeError: a weight is negative, all are zero, or the inverse does not exist.
    """
    if min(weights) < 0:
        raise MergeError("regmean: a negative weight has no solution; weights are zero or more")
    total = sum_of_weights("regmean", weights, "change them")
    mean = np.divide(weighted_sum(tensors, weights), np.float32(total))
    if statistics is None or not mean.size:
        return mean
    grams = [_scaled(gram, alpha) for gram in statistics]
    size = (
        sum(weight * float(np.trace(gram)) for weight, gram in zip(weights, grams, strict=True)) / total / len(grams[0])
    )
    if size <= 0:
        return mean
    left, right = np.zeros(mean.shape), np.zeros(grams[0].shape)
    for tensor, weight, gram in zip(tensors, weights, grams, strict=True):
        damped = weight * (gram + damping * size * np.eye(len(gram)))
        left += product(tensor.astype(np.float64), damped)
        right += damped
    return as_tensor(solution(right, left.T).T, mean.shape)


def _scaled(gram: Floats, alpha: float) -> Matrix:
    """Gᵢ, made symmetric, with its off-diagonal elements times alpha."""
    whole = (gram.astype(np.float64) + gram.T) / 2
    return alpha * whole + (1 - alpha) * np.diag(np.diag(whole))
