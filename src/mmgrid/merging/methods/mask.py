"""`mask`: leave out a share of each task vector, at random or by magnitude."""

from __future__ import annotations

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
    density = float(1 - Decimal(repr(options["drop"])))  # 1 − 0.9 is 0.1, and not a little less
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
    """Δ = Σ wᵢ mᵢ ⊙ τᵢ, where mᵢ leaves out a share of the elements.

    Paper: Yu et al. 2024, https://arxiv.org/abs/2311.03099, whose code calls it mask merging; used so by the
    official code of arXiv 2601.15930.

    Edges: a random mask leaves out each element with probability `drop`; one by magnitude the smallest elements of
    each tensor (`scope`), exactly n − ⌊(1 − drop) · n⌋ of them. The sources are not changed.

    Args:
        tensors: masked τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        mask: "random" or "magnitude".
        drop: share that is left out.
        rescale: divide what is kept by 1 − drop.
        scope: for magnitudes: what one threshold is for.
        inner: the weighted sum ("linear"), or that of those whose sign wins ("ties").
        elect: for "ties": vote with wᵢ τᵢ ("weighted") or τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties" by the weights of those that agree.

    Raises:
        MergeError: Σ wᵢ is zero and `normalise` is on.
    """
    return combined("mask", tensors, weights, inner=inner, elect=elect, normalise=normalise)
