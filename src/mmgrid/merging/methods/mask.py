"""`mask`: drop a share of each task vector, at random or by magnitude."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined, combining
from mmgrid.merging.methods.stages import Drop, Scope, Stage, Trim


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    if options["mask"] == "random":
        return [Drop(drop=options["drop"], rescale=options["rescale"])]
    density = float(1 - Decimal(repr(options["drop"])))  # 1 − 0.9 is exactly 0.1 in decimal, not in floating point
    return [Trim(density=density, rescale=options["rescale"], scope=options["scope"])]


@merge_method(
    needs="model",
    returns="delta",
    base="required",
    stages=_stages,
    per_source=("drop",),
    combining=combining("mask"),
)
def mask(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    mask: Literal["random", "magnitude"] = "random",
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    rescale: bool = False,
    scope: Scope = "tensor",
    inner: Inner = "linear",
    elect: Elect = "weighted",
    normalise: bool = False,
) -> Floats:
    """Δ = Σ wᵢ mᵢ ⊙ τᵢ, where mᵢ masks a share of the elements.

    Paper: Yu et al. 2024, https://arxiv.org/abs/2311.03099, whose code calls it mask merging; the official code of
    arXiv 2601.15930 uses it in this form.

    Edges: a random mask drops each element with probability `drop`. A mask by magnitude drops the smallest elements of
    each tensor (or of another `scope`), exactly n − ⌊(1 − drop) · n⌋ of them. The sources are not changed.

    Args:
        tensors: masked τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        mask: "random" or "magnitude".
        drop: share of the elements to drop.
        rescale: divide kept elements by 1 − drop.
        scope: for masks by magnitude, the group that is ranked together: the whole model, a tower, or a tensor.
        inner: "linear" for the weighted sum; "ties" to sum only the sources that agree with the elected sign.
        elect: for "ties": elect signs by wᵢ τᵢ ("weighted") or by τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties", by the weights of the sources that agree.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on.
    """
    return combined("mask", tensors, weights, inner=inner, elect=elect, normalise=normalise)
