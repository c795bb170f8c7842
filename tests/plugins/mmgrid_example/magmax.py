"""`magmax`: of each weight, the change of the source that moved it furthest."""

from collections.abc import Sequence

import numpy as np

from mmgrid.merging import Floats, merge_method


@merge_method(needs="element", returns="delta", base="required")
def magmax(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Δ = wₖ τₖ with k = argmaxᵢ |wᵢ τᵢ|, element by element.

    Paper: Marczak et al., "MagMax: leveraging model merging for seamless continual learning", ECCV 2024,
    https://arxiv.org/abs/2407.06322 (there wᵢ = 1, and the sources are the models after each task of a sequence).

    Edges: among equal magnitudes the source that comes first by name wins. One source with weight 1
    is returned.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
    """
    largest = np.multiply(tensors[0], np.float32(weights[0]))
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        scaled = np.multiply(tensor, np.float32(weight))
        np.copyto(largest, scaled, where=np.abs(scaled) > np.abs(largest))
    return largest
