"""`nearswap`: move towards the sources, but each element no farther than a fixed distance."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, weighted_sum


@merge_method(needs="element", returns="delta", base="required")
def nearswap(
    tensors: Sequence[Floats], weights: Sequence[float], *, t: Annotated[float, Field(ge=0)] = 0.0001
) -> Floats:
    """Δ = Σ wᵢ max(−t, min(t, τᵢ)), element by element.

    Elements nearer than t are taken from the source, others move by t towards it.

    Paper: none; the method is described with the model that introduced it, "QuartetAnemoi-70B-t0.0001", 2024,
    https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001 (one source of weight 1).

    Edges: t = 0 gives the base. With t above every |τᵢ| it is `task_arithmetic`.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        t: the largest change of an element, in the units of the weights.
    """
    bound = np.float32(t)
    return weighted_sum([np.clip(tensor, -bound, bound, out=like(tensor)) for tensor in tensors], weights)
