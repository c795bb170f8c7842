"""`breadcrumbs`: leave out the largest and the smallest elements of each task vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined, combining
from mmgrid.merging.methods.stages import Outliers, Scope, Stage

Share = Annotated[float, Field(ge=0, le=1)]


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    return [Outliers(density=options["density"], gamma=options["gamma"], scope=options["scope"])]


@merge_method(
    needs="tensor",
    returns="delta",
    base="required",
    stages=_stages,
    per_source=("density", "gamma"),
    combining=combining("breadcrumbs"),
)
def breadcrumbs(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    density: Share = 0.9,
    gamma: Share = 0.01,
    scope: Scope = "tensor",
    inner: Inner = "linear",
    elect: Elect = "weighted",
    normalise: bool = False,
) -> Floats:
    """Δ = Σ wᵢ mᵢ ⊙ τᵢ, where mᵢ keeps the elements between two ranks of magnitude.

    Paper: Davari and Belilovsky, "Model breadcrumbs: scaling multi-task model merging with sparse masks", ECCV 2024,
    https://arxiv.org/abs/2312.06795.

    Edges: of each tensor's n elements the ⌊gamma · n⌋ largest are left out, and the next ⌊density · n⌋ are kept; among
    equals the lower index counts as the larger.

    Args:
        tensors: masked τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        density: share of the elements that is kept.
        gamma: share of the largest elements that is left out.
        scope: what the thresholds are for.
        inner: the weighted sum ("linear"), or that of those whose sign wins ("ties").
        elect: for "ties": vote with wᵢ τᵢ ("weighted") or τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties" by the weights of those that agree.

    Raises:
        MergeError: density and gamma add up to more than 1, or Σ wᵢ is zero and `normalise` is on.
    """
    return combined("breadcrumbs", tensors, weights, inner=inner, elect=elect, normalise=normalise)
