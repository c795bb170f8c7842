"""`lines`: task arithmetic with a scale that grows with the depth of the layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined, combining
from mmgrid.merging.methods.stages import LayerScale, Stage


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    return [LayerScale(first=options["first"], last=options["last"])]


@merge_method(
    needs="element",
    returns="delta",
    base="required",
    stages=_stages,
    per_source=("first", "last"),
    combining=combining("lines"),
)
def lines(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    first: float = 0.5,
    last: float = 1.0,
    inner: Inner = "linear",
    elect: Elect = "weighted",
    normalise: bool = False,
) -> Floats:
    """Δ = s(l) Σ wᵢ τᵢ in layer l, where s grows linearly from `first` to `last`.

    Paper: Wang et al., "LiNeS: post-training layer scaling prevents forgetting and enhances model merging", ICLR 2025,
    https://arxiv.org/abs/2410.17146, eq. 3 (α = first, β = last − first).

    Edges: embeddings count as the first layer, final norms and heads as the last; the layers of each tower are counted
    separately. In a model without numbered layers, every tensor counts as the last layer. first = last = 1 is task
    arithmetic.

    Args:
        tensors: scaled τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        first: factor of the first layer.
        last: factor of the last layer.
        inner: "linear" for the weighted sum; "ties" to sum only the sources that agree with the elected sign.
        elect: for "ties": elect signs by wᵢ τᵢ ("weighted") or by τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties", by the weights of the sources that agree.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on.
    """
    return combined("lines", tensors, weights, inner=inner, elect=elect, normalise=normalise)
