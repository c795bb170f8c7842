"""`della`: drop elements at random, small ones more often, and elect signs among the rest."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined, combining
from mmgrid.merging.methods.stages import MagnitudeDrop, MagnitudeDropToNorm, Rescale, Stage


def _stages(options: Mapping[str, Any]) -> Sequence[Stage]:
    if options["rescale"] == "norm":
        return [MagnitudeDropToNorm(density=options["density"], epsilon=options["epsilon"])]
    return [MagnitudeDrop(density=options["density"], epsilon=options["epsilon"], rescale=options["rescale"])]


@merge_method(
    needs="row",
    returns="delta",
    base="required",
    stages=_stages,
    per_source=("density", "epsilon"),
    combining=combining("della"),
)
def della(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    density: Annotated[float, Field(gt=0, le=1)] = 0.7,
    epsilon: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    rescale: Rescale = True,
    inner: Inner = "ties",
    elect: Elect = "weighted",
    normalise: bool = True,
) -> Floats:
    """Δ = the elected sum of mᵢ ⊙ τᵢ / pᵢ, where the mask mᵢ keeps each element with probability pᵢ.

    pᵢ grows with the rank of the element's magnitude within its row.

    Paper: Deep et al., "DELLA-Merging: reducing interference in model merging through magnitude-based sampling", 2024,
    https://arxiv.org/abs/2406.11617.

    Edges: elements are ranked by magnitude. The smallest of a row is kept with probability density − epsilon / 2, the
    largest with density + epsilon / 2; of equal magnitudes, the one with the lower index ranks lower. A vector is one
    row; a row of one element is kept with probability density. Masks depend only on seed, source, tensor and index,
    as in `dare`. Density 1 with epsilon 0 keeps everything.

    Args:
        tensors: masked τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        density: mean probability that an element is kept.
        epsilon: difference between the largest and the smallest probability.
        rescale: true divides kept elements by their probability; "norm" scales those of each tensor to its L1 norm
            before.
        inner: "linear" for the weighted sum; "ties" to sum only the sources that agree with the elected sign.
        elect: for "ties": elect signs by wᵢ τᵢ ("weighted") or by τᵢ ("plain").
        normalise: divide by Σ wᵢ; for "ties", by the weights of the sources that agree.

    Raises:
        MergeError: a probability is not between 0 and 1, or Σ wᵢ is zero and `normalise` is on.
    """
    return combined("della", tensors, weights, inner=inner, elect=elect, normalise=normalise)
