"""`fisher`: the mean of the models, in which each element counts as much as a model's predictions depend on it."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method, sum_of_weights, weighted_sum


@merge_method(needs="element", returns="weights", base="optional", statistics="fisher")
def fisher(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    statistics: Sequence[Floats] | None,
    *,
    floor: Annotated[float, Field(ge=0)] = 0.0,
) -> Floats:
    """θ = Σ wᵢ Fᵢ θᵢ / Σ wᵢ Fᵢ, element by element; Fᵢ is the diagonal of the Fisher information of model i.

    With a base, the task vectors τᵢ take the place of θᵢ, and the base is added. `mmgrid learn fisher` measures Fᵢ.

    Paper: Matena and Raffel, "Merging models with Fisher-weighted averaging", NeurIPS 2022,
    https://arxiv.org/abs/2111.09832.

    Edges: an element that no model's predictions depend on (Σ wᵢ Fᵢ = 0), and a tensor without statistics, is the
    weighted mean Σ wᵢ θᵢ / Σ wᵢ. Computed in float64.

    Args:
        tensors: θᵢ (τᵢ with a base), float32, one shape.
        weights: wᵢ, one per tensor, zero or more.
        statistics: Fᵢ, zero or more, of the same shape; None for a tensor without.
        floor: added to every Fᵢ, so that elements on which little depends are averaged.

    Raises:
        MergeError: a weight is negative, all are zero, or a value of Fᵢ is negative.
    """
    if min(weights) < 0:
        raise MergeError("fisher: a negative weight would make some elements infinite; weights are zero or more")
    total = sum_of_weights("fisher", weights, "change them")
    mean = np.divide(weighted_sum(tensors, weights), np.float32(total))
    if statistics is None:
        return mean
    above, below = np.zeros(mean.shape), np.zeros(mean.shape)
    for tensor, weight, information in zip(tensors, weights, statistics, strict=True):
        if information.size and information.min() < 0:
            raise MergeError("fisher: the statistics hold negative values, so they are no Fisher information")
        share = weight * (information.astype(np.float64) + floor)
        above += share * tensor
        below += share
    return np.where(below > 0, np.divide(above, below, out=np.zeros_like(above), where=below > 0), mean).astype(
        np.float32
    )
