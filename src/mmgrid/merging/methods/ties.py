"""`ties`: trim each task vector, elect a sign for each element, combine the elements that agree."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import Preset, merge_method
from mmgrid.merging.methods.consensus import Elect, elected, electing
from mmgrid.merging.methods.stages import Drop, Rescale, Scope, Stage, Trim, TrimToNorm

Share = Annotated[float, Field(ge=0, le=1)]
SUBSPACE = Preset(
    {"drop": 0.1, "density": 0.2, "scope": "model", "elect": "plain", "normalise": False}, equal_weights=True
)


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    dropping = [Drop(drop=options["drop"])] if options["drop"] else []
    density, scope, least = options["density"], options["scope"], options.get("least", 0)
    rescale = options.get("rescale", False)
    if rescale == "norm":
        return [*dropping, TrimToNorm(density=density, scope=scope, least=least)]
    return [*dropping, Trim(density=density, scope=scope, least=least, rescale=rescale is True)]


@merge_method(
    needs="model",
    returns="delta",
    base="required",
    stages=_stages,
    presets={"subspace": SUBSPACE},
    per_source=("density",),
    combining=electing,
)
def ties(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    density: Share = 0.2,
    scope: Scope = "model",
    elect: Elect = "weighted",
    normalise: bool = True,
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    rescale: Annotated[Rescale, Field(json_schema_extra={"absent_means": False})] = False,
    least: Annotated[int, Field(ge=0, json_schema_extra={"absent_means": 0})] = 0,
) -> Floats:
    """Δ = Σ wᵢ TRIM(τᵢ) / Σ wᵢ over the sources that agree with the elected sign, element by element.

    Paper: Yadav et al., "TIES-Merging: resolving interference when merging models", NeurIPS 2023,
    https://arxiv.org/abs/2306.01708. The preset `subspace` is the method of arXiv 2601.15930, eq. 4 and 7: DARE with
    p = 0.1, then a trim to the largest fifth of the whole task vector, signs elected by the plain sum, weights (1/N, or
    α and 1 − α) applied after the trim, no disjoint mean.

    Edges: TRIM keeps exactly ⌊density · n⌋ elements of the model, tower or tensor, the lower index first among equal
    magnitudes. A tied election counts as positive. Density 1 with one source of weight 1 gives that source.

    Args:
        tensors: trimmed τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        density: share of the elements to keep.
        scope: the group that is ranked together: the whole model, a tower, or a tensor.
        elect: elect signs by wᵢ τᵢ ("weighted") or by τᵢ ("plain").
        normalise: divide by the weights of the sources that agree (the disjoint mean).
        drop: probability of dropping an element at random before the trim, as in DARE.
        rescale: true divides kept elements by the density; "norm" scales those of each tensor to its L1 norm before.
        least: number of elements of the model, tower or tensor to keep at least, unless the density is 0.
    """
    return elected(tensors, weights, elect=elect, normalise=normalise)
