"""`sce`: merge the elements in which the sources differ most, each source weighted by how much it changed the tensor."""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, refuse_weights
from mmgrid.merging.methods.passes import OfRun, Passes
from mmgrid.merging.methods.selection import select_largest


@merge_method(needs="tensor", returns="delta", base="required")
def sce(
    passes: Passes,
    weights: Sequence[float],
    *,
    select: Annotated[float, Field(ge=0, le=1)] = 1.0,
    floor: Annotated[float, Field(ge=0)] = 0.0,
) -> OfRun:
    """Δ = Σ ηᵢ τᵢ / Σ ηᵢ over the sources that agree with the sign of Σ τᵢ, element by element, on selected elements.

    Select: of the elements whose variance over the sources is not zero, the share `select` with the largest. Calculate:
    ηᵢ, the sum of the squares of source i's selected elements, divided by that of all sources. Erase: at each element
    the sources of the other sign. Elements that are not selected keep the base's value.

    Paper: Wan et al., "FuseChat: knowledge fusion of chat models", 2024, https://arxiv.org/abs/2408.07990, section 3.3
    (there with `select` 0.1).

    Edges: of equal variances the lower index is selected. A sum of zero counts as positive; zeros agree with neither
    sign. If nothing is selected, Δ is 0: so for a single source, whose variance is zero, unless `select` is 1. Weights
    must be equal, and have no effect.

    Args:
        passes: over the τᵢ of a tensor.
        weights: all equal.
        select: share of the varying elements to select; 1 selects all elements.
        floor: if the mean squares of all sources add up to less, they get equal ηᵢ; and the least divisor Σ ηᵢ.

    Raises:
        MergeError: weights differ.
    """
    refuse_weights("sce", weights)
    spread = passes.spread
    selection = None if select == 1 else select_largest(passes, spread.variance, select)

    def selected(start: int, runs: Sequence[Floats]) -> Sequence[Floats]:
        """The runs, zero where they are not selected."""
        if selection is None:
            return runs
        chosen = selection.of(start, spread.variance(runs))
        return [np.multiply(run, chosen, out=like(run)) for run in runs]

    squares = passes.each(lambda start, runs: [spread.squares(run) for run in selected(start, runs)])
    means = [math.fsum(np.concatenate(own)) / max(passes.size, 1) for own in zip(*squares, strict=True)]
    total = math.fsum(means)
    shares = [mean / total for mean in means] if total and total >= floor else [1 / len(means)] * len(means)
    return lambda start, runs: spread.agreed(selected(start, runs), shares, floor)
