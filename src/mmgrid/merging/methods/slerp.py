"""`slerp` and `multislerp`: spherical instead of linear interpolation, tensor by tensor.

Both results are linear combinations of the sources, with coefficients that follow from the tensors' inner products.
So one pass computes the inner products, and a second streams the sources.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method, sum_of_weights

_NEARLY_PARALLEL = 0.9995


@merge_method(needs="tensor", returns="weights", base="none")
def slerp(gram: np.ndarray, weights: Sequence[float]) -> list[float]:
    """θ = sin((1 − t) Ω) / sin Ω · θ₁ + sin(t Ω) / sin Ω · θ₂, with t = w₂ / (w₁ + w₂), Ω the angle between θ₁ and θ₂.

    Paper: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985,
    https://doi.org/10.1145/325334.325242.

    Edges: exactly two sources. Each tensor has its own angle. Nearly parallel or antiparallel tensors
    (|cos Ω| > 0.9995) and tensors of length zero are interpolated linearly.

    Args:
        gram: float64 [2, 2], inner products of the two tensors.
        weights: w₁, w₂.

    Raises:
        MergeError: there are not two sources, or the weights add up to zero.
    """
    if len(weights) != 2:
        raise MergeError(f"slerp: takes two sources, not {len(weights)}; use multislerp")
    t = weights[1] / sum_of_weights("slerp", weights, "change them")
    lengths = math.sqrt(gram[0, 0]) * math.sqrt(gram[1, 1])
    cosine = min(max(gram[0, 1] / lengths, -1.0), 1.0) if lengths else 1.0
    if abs(cosine) > _NEARLY_PARALLEL:
        return [1 - t, t]
    angle = math.acos(cosine)
    return [math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)]


@merge_method(needs="tensor", returns="weights", base="optional")
def multislerp(
    gram: np.ndarray, weights: Sequence[float], *, normalise: bool = True, eps: Annotated[float, Field(ge=0)] = 1e-8
) -> list[float]:
    """The barycentre on the sphere: directions projected to the tangent space at their mean, averaged, projected back.

    With unit vectors uᵢ, mean direction m and tangents vᵢ = uᵢ − (uᵢ · m) m, the result is exp_m(Σ wᵢ vᵢ) times the
    mean length Σ wᵢ |θᵢ|. With a base, the task vectors τᵢ take the place of θᵢ.

    Paper: Goddard, "Multi-SLERP", 2025, https://goddard.blog/posts/multislerp-wow-what-a-cool-idea.

    Edges: a single source is returned unchanged. Two sources that cancel out are averaged linearly, as are tensors that
    are zero in all sources (task vectors of frozen layers). A tensor that is zero in some sources has no direction in
    these; they enter only the mean length.

    Args:
        gram: float64 [n, n], inner products of the tensors (of the task vectors, with a base).
        weights: wᵢ.
        normalise: divide the weights by their sum.
        eps: added to lengths before dividing by them.

    Raises:
        MergeError: the weights add up to zero and `normalise` is on, or more than two sources cancel out.
    """
    share = np.asarray(weights, np.float64)
    if len(share) == 1:
        return [1.0]
    if normalise:
        share = share / sum_of_weights("multislerp", weights)
    lengths = np.sqrt(np.diag(gram))
    inverse = 1 / np.where(lengths > 0, lengths + eps, np.inf)
    unit = gram * np.outer(inverse, inverse)  # inner products of the unit vectors
    mean_length = math.sqrt(max(share @ unit @ share, 0.0))
    if mean_length <= eps:
        if len(share) == 2 or not lengths.any():
            return list(share)
        raise MergeError("multislerp: the sources cancel out: their weighted mean has no direction; change the weights")
    mean = share / mean_length  # the mean direction, as coefficients of the unit vectors
    tangent = share - math.fsum(share * (unit @ mean)) * mean  # Σ wᵢ vᵢ
    size = math.sqrt(max(tangent @ unit @ tangent, 0.0)) + eps
    point = mean * math.cos(size) + tangent * (math.sin(size) / size if size else 1.0)
    return list(point * math.fsum(share * lengths) * inverse)
