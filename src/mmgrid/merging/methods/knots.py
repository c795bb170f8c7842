"""`knots`: align the task vectors in a shared basis, and merge them there."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, sum_of_weights
from mmgrid.merging.methods.consensus import Elect, Inner
from mmgrid.merging.methods.linear_algebra import Matrix, as_matrix, as_tensor, directions, is_matrix, product
from mmgrid.merging.methods.stages.base import share_of


@merge_method(needs="tensor", returns="delta", base="required")
def knots(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    inner: Inner = "ties",
    density: Annotated[float, Field(ge=0, le=1)] = 0.2,
    elect: Elect = "weighted",
    normalise: bool = True,
) -> Floats:
    """Δ = U · merge(Σ V₁ᵀ, …, Σ V_Nᵀ), where U Σ [V₁ᵀ … V_Nᵀ] is the SVD of [τ₁ … τ_N], side by side.

    The columns of U are a basis that all sources share, and Σ Vᵢᵀ holds the coordinates of source i. The coordinates
    are merged element by element, as in `ties`: trimmed, signs elected, the agreeing ones combined.

    Paper: Stoica et al., "Model merging with SVD to tie the Knots", ICLR 2025, https://arxiv.org/abs/2410.19735.

    Edges: with `inner = "linear"` and density 1 this is task arithmetic, because all sources share U. The trim keeps
    exactly ⌊density · n⌋ of the n elements of each Σ Vᵢᵀ of a tensor, the lower index first among equal magnitudes (the
    authors rank over all tensors at once). Weights apply after the alignment. Columns of U whose singular value is zero
    are left out (the authors: below 10⁻⁵). Vectors and scalars are merged without alignment, biases too (the authors
    append a bias to its matrix). Tensors of more than two dimensions are flattened to matrices after their first
    dimension.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        inner: after the trim, "linear" for the weighted sum; "ties" to sum only the sources that agree with the elected
            sign.
        density: share of the aligned elements to keep.
        elect: for "ties": elect signs by wᵢ Σ Vᵢᵀ ("weighted") or by Σ Vᵢᵀ ("plain").
        normalise: divide by Σ wᵢ; for "ties", by the weights of the sources that agree.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on, or the decomposition does not converge.
    """
    divisor = sum_of_weights("knots", weights) if normalise and inner == "linear" else 1.0
    if is_matrix(tensors):
        axes = directions(np.concatenate([as_matrix(tensor) for tensor in tensors], axis=1))
        along = np.split(axes.sizes[:, None] * axes.right, len(tensors), axis=1)
    else:
        axes, along = None, [np.asarray(tensor, np.float64) for tensor in tensors]
    kept = [_trimmed(part, density) for part in along]
    if inner == "ties":
        merged = _elected(kept, weights, elect, normalise)
    else:
        merged = np.sum([weight * part for weight, part in zip(weights, kept, strict=True)], axis=0) / divisor
    return as_tensor(merged if axes is None else product(axes.left, merged), tensors[0].shape)


def _trimmed(values: Matrix, density: float) -> Matrix:
    """Keeps the ⌊density · n⌋ largest magnitudes; the rest is zero."""
    magnitudes = np.abs(values).reshape(-1)
    n, kept = magnitudes.size, share_of(density, magnitudes.size)
    if kept == n:
        return values
    threshold = np.partition(magnitudes, n - kept)[n - kept] if kept else np.inf
    keep = magnitudes > threshold
    keep[np.flatnonzero(magnitudes == threshold)[: kept - int(np.count_nonzero(keep))]] = True
    return values * keep.reshape(values.shape)


def _elected(parts: Sequence[Matrix], weights: Sequence[float], elect: Elect, normalise: bool) -> Matrix:
    """`consensus.elected` in float64, because the result is still multiplied by U."""
    voices = [weight * part if elect == "weighted" else part for weight, part in zip(weights, parts, strict=True)]
    sign = np.where(np.sum(voices, axis=0) >= 0, 1.0, -1.0)
    total, divisor = np.zeros(sign.shape), np.zeros(sign.shape)
    for voice, part, weight in zip(voices, parts, weights, strict=True):
        agrees = voice * sign > 0
        total += agrees * part * weight
        divisor += agrees * weight
    return total / np.where(divisor == 0, 1.0, divisor) if normalise else total
