"""`arcee_fusion`: take over only the elements that matter most, by their change and by the change of their row."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, weighted_sum

_SMALLEST = 1e-8  # added to probabilities, so that logarithms exist
_RUN = 1 << 18  # elements held in float64 at once


@merge_method(needs="tensor", returns="delta", base="required")
def arcee_fusion(tensors: Sequence[Floats], weights: Sequence[float], base: Floats) -> Floats:
    """Δ = Σ wᵢ mᵢ ⊙ τᵢ, where mᵢ keeps the elements of importance |τᵢ| · KL(softmax θᵢ ‖ softmax θ₀) ≥ Q₂ + 1.5 (Q₃ − Q₁).

    The divergence is that of the element's row, and the Q are the quartiles of the tensor's importances: what is taken
    over are the outliers of a box plot.

    Paper: none; its authors describe it in the documentation of mergekit,
    https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md (one source of weight 1).

    Edges: a quartile is the element of rank ⌊q (n − 1)⌋ in ascending order, over all n elements. 10⁻⁸ is added to each
    probability. A vector is one row, and a scalar is taken over. Several sources are compared with the base one by one.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        base: θ₀.
    """
    return weighted_sum([_important(tensor, base) for tensor in tensors], weights)


def _important(delta: Floats, base: Floats) -> Floats:
    """A task vector with the elements of little importance set to zero."""
    if not delta.size:
        return delta
    width = delta.shape[-1] if delta.ndim else 1
    rows, below = delta.reshape(-1, width), base.reshape(-1, width)
    step = max(_RUN // width, 1)
    found = np.concatenate(
        [_importance(rows[start : start + step], below[start : start + step]) for start in range(0, len(rows), step)]
    ).reshape(-1)
    ranks = [int(share * (found.size - 1)) for share in (0.25, 0.5, 0.75)]
    low, middle, high = np.partition(found, sorted(set(ranks)))[ranks]
    return delta * (found >= middle + 1.5 * (high - low)).reshape(delta.shape)


def _importance(delta: Floats, base: Floats) -> NDArray[np.float64]:
    """The importance of the elements of some rows [r, width]."""
    first = base.astype(np.float64)
    there, here = _softmax(first + delta) + _SMALLEST, _softmax(first) + _SMALLEST
    divergence = (there * np.log(there / here)).sum(axis=1, keepdims=True)
    return np.abs(delta) * divergence


def _softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
