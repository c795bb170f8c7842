"""`dare`: drop most of each task vector at random, and scale up what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined, combining
from mmgrid.merging.methods.stages import Drop, Stage


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    return [Drop(drop=options["drop"], rescale=options["rescale"])]


@merge_method(
    needs="element",
    returns="delta",
    base="required",
    stages=_stages,
    per_source=("drop",),
    combining=combining("dare"),
)
def dare(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    rescale: bool = True,
    inner: Inner = "linear",
    elect: Elect = "weighted",
    normalise: bool = False,
) -> Floats:
    """Δ = Σ wᵢ mᵢ ⊙ τᵢ / (1 − p), each mask mᵢ zero with probability p.

    Paper: Yu et al., "Language models are super Mario: absorbing abilities from homologous models as a free lunch",
    ICML 2024, https://arxiv.org/abs/2311.03099.

    Edges: masks depend on the seed, the source's name, the tensor's name and the element's index, on nothing else.
    The scale is 1 / (1 − p) exactly. With `inner = "ties"` signs are elected (nothing is trimmed; for a trim use
    `ties` with `drop`).

    Args:
        tensors: masked τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        drop: p, the probability that an element is dropped.
        rescale: divide by 1 − p.
        inner: the weighted sum ("linear"), or that of those whose sign wins ("ties").
        elect: for "ties": vote with wᵢ τᵢ ("weighted") or τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties" by the weights of those that agree.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on.
    """
    return combined("dare", tensors, weights, inner=inner, elect=elect, normalise=normalise)
