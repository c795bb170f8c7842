"""`model_stock`: the mean task vector, scaled by how much the sources agree."""

import itertools
from collections.abc import Sequence

import numpy as np

from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method

_SINGULAR = 1e-6


@merge_method(needs="tensor", returns="delta", base="required")
def model_stock(gram: np.ndarray, weights: Sequence[float]) -> list[float]:
    """Δ = t · mean(τᵢ), t = N cos θ / (1 + (N − 1) cos θ), with cos θ the mean cosine between a tensor's task vectors.

    Paper: Jang et al., "Model Stock: all we need is just a few fine-tuned models", ECCV 2024,
    https://arxiv.org/abs/2403.19522, eq. 2 and its extension to N.

    Edges: at least two sources; weights must be equal, and have no effect. A task vector of length zero has cosine 0
    with the others. Where 1 + (N − 1) cos θ vanishes, no estimate exists, and Δ is 0.

    Args:
        gram: float64 [n, n], inner products of the task vectors of a tensor.
        weights: all 1.

    Raises:
        MergeError: there is only one source, or weights differ.
    """
    n = len(weights)
    if n < 2:
        raise MergeError("model_stock: takes at least two sources, because it scales by the angle between them")
    if len(set(weights)) > 1:
        raise MergeError("model_stock: takes no weights; leave them out")
    lengths = np.sqrt(np.diag(gram))
    cosines = [
        min(max(gram[i, j] / (lengths[i] * lengths[j]), -1.0), 1.0) if lengths[i] * lengths[j] else 0.0
        for i, j in itertools.combinations(range(n), 2)
    ]
    cosine = float(np.mean(cosines))
    below = 1 + (n - 1) * cosine
    share = 0.0 if abs(below) < _SINGULAR else n * cosine / below
    return [share / n] * n
