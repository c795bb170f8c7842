"""`model_stock`: the mean task vector, scaled by how much the sources agree."""

import itertools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method, refuse_weights

_SINGULAR = 1e-6
_RUN = 1 << 18  # elements held in float64 at once
Eps = Annotated[float, Field(ge=0)]


@merge_method(needs="tensor", returns="delta", base="required")
def model_stock(
    gram: np.ndarray,
    weights: Sequence[float],
    *,
    eps: Annotated[float, Field(ge=0, json_schema_extra={"absent_means": 0.0})] = 0.0,
) -> list[float]:
    """Δ = t · mean(τᵢ), t = N cos θ / (1 + (N − 1) cos θ), with cos θ the mean cosine between a tensor's task vectors.

    Paper: Jang et al., "Model Stock: all we need is just a few fine-tuned models", ECCV 2024,
    https://arxiv.org/abs/2403.19522, eq. 2 and its extension to N.

    Edges: at least two sources; weights must be equal, and have no effect. A task vector of length zero has cosine 0
    with the others. Where 1 + (N − 1) cos θ vanishes, no estimate exists, and Δ is 0.

    Args:
        gram: float64 [n, n], inner products of the task vectors of a tensor.
        weights: all 1.
        eps: the least product of two lengths that a cosine is divided by.

    Raises:
        MergeError: there is only one source, or weights differ.
    """
    n = len(weights)
    _check("model_stock", weights)
    return [float(_shares(gram[None], eps)[0]) / n] * n


@merge_method(needs="tensor", returns="delta", base="required")
def model_stock_filters(tensors: Sequence[Floats], weights: Sequence[float], *, eps: Eps = 0.0) -> Floats:
    """As `model_stock`, with an angle and a scale t for each filter: each row of a matrix.

    Paper: Jang et al., "Model Stock: all we need is just a few fine-tuned models", ECCV 2024,
    https://arxiv.org/abs/2403.19522, which measures angles for each layer and for each filter.

    Edges: as in `model_stock`, for each row. A vector is one row; in a tensor of more dimensions, a row runs along the
    last.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: all 1.
        eps: the least product of two lengths that a cosine is divided by.

    Raises:
        MergeError: there is only one source, or weights differ.
    """
    _check("model_stock_filters", weights)
    shape = tensors[0].shape
    width = shape[-1] if shape else 1
    result = np.zeros(shape, np.float32).reshape(-1, width) if tensors[0].size else np.zeros(shape, np.float32)
    step = max(_RUN // max(width, 1), 1)
    for start in range(0, len(result) if tensors[0].size else 0, step):
        rows = np.stack([tensor.reshape(-1, width)[start : start + step].astype(np.float64) for tensor in tensors], 1)
        shares = _shares(rows @ rows.transpose(0, 2, 1), eps)
        result[start : start + step] = shares[:, None] * rows.mean(axis=1)
    return result.reshape(shape)


def _check(name: str, weights: Sequence[float]) -> None:
    if len(weights) < 2:
        raise MergeError(f"{name}: takes at least two sources, because it scales by the angle between them")
    refuse_weights(name, weights)


def _shares(grams: np.ndarray, eps: float) -> np.ndarray:
    """t of each Gram matrix [r, n, n]."""
    n = grams.shape[-1]
    lengths = np.sqrt(np.diagonal(grams, axis1=1, axis2=2))
    cosines = []
    for i, j in itertools.combinations(range(n), 2):
        product = np.maximum(lengths[:, i] * lengths[:, j], eps)
        cosine = np.divide(grams[:, i, j], product, out=np.zeros(len(grams)), where=product > 0)
        cosines.append(np.clip(cosine, -1.0, 1.0))
    cosine = np.mean(cosines, axis=0)
    below = 1 + (n - 1) * cosine
    singular = np.abs(below) < _SINGULAR
    return np.where(singular, 0.0, n * cosine / np.where(singular, 1.0, below))
