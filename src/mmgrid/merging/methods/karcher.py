"""`karcher`: the mean of directions on the sphere, with the mean length."""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.methods.base import merge_method, sum_of_weights

_OPPOSITE = 1e-7  # the sine below which a direction gives no tangent


@merge_method(needs="tensor", returns="weights", base="none")
def karcher(
    gram: np.ndarray,
    weights: Sequence[float],
    *,
    max_iter: Annotated[int, Field(ge=0)] = 10,
    tol: Annotated[float, Field(ge=0)] = 1e-5,
) -> list[float]:
    """θ = (Σ αᵢ |θᵢ|) m, with αᵢ = wᵢ / Σ wᵢ and m the unit vector that minimises Σ αᵢ ∠(m, θᵢ)².

    m starts at the normalised mean of the directions uᵢ = θᵢ / |θᵢ|. Each step moves it along the sphere by
    v = Σ αᵢ (ωᵢ / sin ωᵢ) (uᵢ − cos ωᵢ m), with ωᵢ = ∠(m, uᵢ), until |v| ≤ `tol`.

    Paper: Karcher, "Riemannian center of mass and mollifier smoothing", Communications on Pure and Applied Mathematics
    30, 1977, https://doi.org/10.1002/cpa.3160300502; for merging: "Functionality-oriented LLM merging on the Fisher-Rao
    manifold", 2026, https://arxiv.org/abs/2603.04972.

    Edges: a single source is returned unchanged. Each tensor has its own mean. A tensor no longer than `tol` has no
    direction, and enters only the mean length; if none has a direction, the result is 0. If the directions cancel out,
    m starts at the first of them by the source's name. A source opposite to m does not move it.

    Args:
        gram: float64 [n, n], inner products of the tensors.
        weights: wᵢ.
        max_iter: the largest number of steps.
        tol: lengths, angles and steps up to it count as zero.

    Raises:
        MergeError: Σ wᵢ is zero, or that of the sources with a direction.
    """
    n = len(weights)
    if n == 1:
        return [1.0]
    total = sum_of_weights("karcher", weights, "change them")
    lengths = np.sqrt(np.diag(gram))
    length = math.fsum(weight / total * float(own) for weight, own in zip(weights, lengths, strict=True))
    known = [number for number in range(n) if lengths[number] > tol]
    if not known:
        return [0.0] * n
    unit = gram[np.ix_(known, known)] / np.outer(lengths[known], lengths[known])
    shares = np.array([weights[number] for number in known], np.float64)
    mean = _mean(unit, shares / sum_of_weights("karcher", list(shares), "change them"), max_iter, tol)
    coefficients = np.zeros(n)
    coefficients[known] = length * mean / lengths[known]
    return list(coefficients)


def _mean(unit: np.ndarray, shares: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
    """m as coefficients of the unit vectors, whose inner products are `unit`."""

    def size(vector: np.ndarray) -> float:
        return math.sqrt(max(float(vector @ unit @ vector), 0.0))

    first = np.zeros(len(shares))
    first[0] = 1.0
    mean = shares / size(shares) if size(shares) > tol else first
    for _ in range(max_iter):
        cosines = np.clip(unit @ mean, -1.0, 1.0)
        angles = np.arccos(cosines)
        sines = np.sin(angles)
        moves = (angles >= tol) & (sines > _OPPOSITE)
        factors = np.where(moves, shares * angles / np.where(moves, sines, 1.0), 0.0)
        step = factors - float(factors @ cosines) * mean
        length = size(step)
        if length <= tol:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * step
        mean = mean / (size(mean) or 1.0)
    return mean
