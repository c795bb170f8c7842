"""`breadcrumbs`: drop the largest and the smallest elements of each task vector."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined, combining
from mmgrid.merging.methods.stages import Outliers, OutliersToNorm, Scope, Stage

Share = Annotated[float, Field(ge=0, le=1)]


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    kind = OutliersToNorm if options.get("rescale") == "norm" else Outliers
    return [kind(density=options["density"], gamma=options["gamma"], scope=options["scope"])]


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
    rescale: Annotated[Literal[False, "norm"], Field(json_schema_extra={"absent_means": False})] = False,
    inner: Inner = "linear",
    elect: Elect = "weighted",
    normalise: bool = False,
) -> Floats:
    """Δ = Σ wᵢ mᵢ ⊙ τᵢ, where mᵢ keeps the elements whose magnitude lies between two ranks.

    Paper: Davari and Belilovsky, "Model breadcrumbs: scaling multi-task model merging with sparse masks", ECCV 2024,
    https://arxiv.org/abs/2312.06795.

    Edges: of a tensor's n elements, the ⌊gamma · n⌋ largest are dropped and the next ⌊density · n⌋ are kept; of equal
    magnitudes, the one with the lower index ranks higher.

    Args:
        tensors: masked τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        density: share of the elements to keep.
        gamma: share of the elements to drop as the largest.
        scope: the group that is ranked together: the whole model, a tower, or a tensor.
        rescale: "norm" scales the kept elements of each tensor to its L1 norm before; false does not scale them.
        inner: "linear" for the weighted sum; "ties" to sum only the sources that agree with the elected sign.
        elect: for "ties": elect signs by wᵢ τᵢ ("weighted") or by τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties", by the weights of the sources that agree.

    Raises:
        MergeError: density and gamma add up to more than 1, or Σ wᵢ is zero and `normalise` is on.
    """
    return combined("breadcrumbs", tensors, weights, inner=inner, elect=elect, normalise=normalise)
