"""`ram` and `ram_plus`: average the elements that several sources changed, keep in full those that only one changed."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, refuse_weights

Epsilon = Annotated[float, Field(ge=0)]


@merge_method(needs="element", returns="delta", base="required")
def ram(tensors: Sequence[Floats], weights: Sequence[float], *, epsilon: Epsilon = 1e-5) -> Floats:
    """Δ = Σ mᵢ τᵢ / Σ mᵢ, element by element; mᵢ is 1 where |τᵢ| > ε and 0 elsewhere.

    Where no source has changed an element, the base's value stays.

    Paper: "Reinforced agent merging" (RAM), 2026, https://arxiv.org/abs/2601.13572. Reinforcement learning changes few
    elements, and different tasks change different ones; a plain average would shrink those that one task alone changed.

    Edges: with ε = 0 an element counts as changed if it differs from the base at all. Weights must be equal, and have
    no effect.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: all equal.
        epsilon: ε, the largest change that counts as none.

    Raises:
        MergeError: weights differ.
    """
    refuse_weights("ram", weights)
    changed = [_changed(tensor, epsilon) for tensor in tensors]
    return _summed(tensors, changed, _counts(tensors[0], changed), [1.0] * len(tensors))


@merge_method(needs="tensor", returns="delta", base="required")
def ram_plus(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    reward: float = 0.1,
    cap: Annotated[float, Field(ge=0)] = 0.2,
    epsilon: Epsilon = 1e-5,
) -> Floats:
    """As `ram`, with the elements that source i alone changed multiplied by 1 + r · min(ρᵢ, α).

    ρᵢ is the number of elements of the tensor that source i and others changed, divided by the number that it alone
    changed: what its shared elements lose in the average is made up for by its own.

    Paper: "Reinforced agent merging" (RAM+), 2026, https://arxiv.org/abs/2601.13572. There ρᵢ is of the whole model;
    here each tensor has its own, as in mergekit's `ramplus_tl`.

    Edges: r = 0 is `ram`. A source that changed no element alone has nothing to multiply. Weights must be equal, and
    have no effect.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: all equal.
        reward: r, the strength of the compensation.
        cap: α, the largest ρᵢ that counts.
        epsilon: ε, the largest change that counts as none.

    Raises:
        MergeError: weights differ.
    """
    refuse_weights("ram_plus", weights)
    changed = [_changed(tensor, epsilon) for tensor in tensors]
    counts = _counts(tensors[0], changed)
    factors = []
    for own in changed:
        alone, shared = int(np.count_nonzero(own & (counts == 1))), int(np.count_nonzero(own & (counts > 1)))
        factors.append(1 + reward * min(shared / alone, cap) if alone else 1.0)
    return _summed(tensors, changed, counts, factors)


def _changed(tensor: Floats, epsilon: float) -> NDArray[np.bool_]:
    return np.abs(tensor) > np.float32(epsilon)


def _counts(first: Floats, changed: Sequence[NDArray[np.bool_]]) -> Floats:
    """The number of sources that changed each element."""
    counts = np.zeros(first.shape, np.float32)
    for own in changed:
        counts += own
    return counts


def _summed(
    tensors: Sequence[Floats], changed: Sequence[NDArray[np.bool_]], counts: Floats, factors: Sequence[float]
) -> Floats:
    """Σ mᵢ τᵢ / Σ mᵢ; elements that one source alone changed are multiplied by its factor."""
    total = like(tensors[0])
    total.fill(0)
    alone = counts == 1
    for tensor, own, factor in zip(tensors, changed, factors, strict=True):
        part = np.multiply(tensor, own, out=like(tensor))
        if factor != 1:
            np.multiply(part, np.float32(factor), out=part, where=alone)
        total += part
    return np.divide(total, np.maximum(counts, 1), out=total)
