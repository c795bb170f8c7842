"""`dare`: drop elements of each task vector at random, and scale up the rest."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined, combining
from mmgrid.merging.methods.stages import Drop, DropToNorm, Rescale, Stage


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    if options["rescale"] == "norm":
        return [DropToNorm(drop=options["drop"])]
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
    rescale: Rescale = True,
    inner: Inner = "linear",
    elect: Elect = "weighted",
    normalise: bool = False,
) -> Floats:
    """Δ = Σ wᵢ mᵢ ⊙ τᵢ / (1 − p), where each element of the mask mᵢ is 0 with probability p, else 1.

    Paper: Yu et al., "Language models are super Mario: absorbing abilities from homologous models as a free lunch",
    ICML 2024, https://arxiv.org/abs/2311.03099.

    Edges: masks depend only on the seed, the source's name, the tensor's name and the element's index. The scale is
    1 / (1 − p), regardless of the share actually dropped. With `inner = "ties"` signs are elected but nothing is
    trimmed; to trim as well, use `ties` with `drop`.

    Args:
        tensors: masked τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        drop: p, the probability that an element is dropped.
        rescale: true divides kept elements by 1 − p; "norm" scales those of each tensor to its L1 norm before.
        inner: "linear" for the weighted sum; "ties" to sum only the sources that agree with the elected sign.
        elect: for "ties": elect signs by wᵢ τᵢ ("weighted") or by τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties", by the weights of the sources that agree.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on.
    """
    return combined("dare", tensors, weights, inner=inner, elect=elect, normalise=normalise)
