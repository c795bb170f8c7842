"""`consensus`: keep the elements of the summed task vectors that matter to several sources."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.buffers import frame, like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined
from mmgrid.merging.parts.mask import tall_mask


@merge_method(needs="element", returns="delta", base="required")
def consensus(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    threshold: Annotated[float, Field(ge=0)] = 0.4,
    k: Annotated[int, Field(ge=0)] = 2,
    task: Annotated[int, Field(ge=1)] | None = None,
    inner: Inner = "linear",
    elect: Elect = "weighted",
    normalise: bool = False,
) -> Floats:
    """Δ = m ⊙ τ, where τ = Σ wᵢ τᵢ, and m keeps the elements for which at least k of the sources' masks are set.

    Source i's mask, the TALL-mask, is set where |τᵢ| ≥ |τ − τᵢ| · threshold: where its own change outweighs the
    contribution of the others. Elements that matter to no source (catastrophic weights) or to a single one (selfish
    weights) are dropped.

    Paper: Wang et al., "Localizing task information for improved model merging and compression", ICML 2024,
    https://arxiv.org/abs/2405.07813 (TALL-masks and consensus merging).

    Edges: where both sides of the comparison are equal the mask is set, as in the paper (the authors' code: not
    set); so an element that no source changed is set in all masks. k = 0 keeps everything, which is task arithmetic
    (or TIES without a trim, with `inner = "ties"`). The authors choose a threshold from 0.2 to 0.6 per source by
    validation score; here all sources share one.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        threshold: factor on the contribution of the other sources; larger values set fewer masks.
        k: minimum number of masks that must be set.
        task: position of a source in the order of names, from 1. Restores that source from the sum, Δ = mᵢ ⊙ τ with its
            mask alone, as in the paper's compression; k is then ignored.
        inner: τ as the weighted sum ("linear"), or the sum of the sources that agree with the elected sign ("ties").
        elect: for "ties": elect signs by wᵢ τᵢ ("weighted") or by τᵢ ("plain").
        normalise: divide τ by Σ wᵢ; for "ties", by the weights of the sources that agree.

    Raises:
        MergeError: k or task is larger than the number of sources, or Σ wᵢ is zero and `normalise` is on.
    """
    n = len(tensors)
    if task is None and k > n:
        raise MergeError(f"consensus: k is {k}, but there are only {n} masks, one of each source; lower k")
    if task is not None and task > n:
        raise MergeError(
            f"consensus: task is {task}, and the sources are numbered from 1 to {n}, in the order of their names"
        )
    total = combined("consensus", tensors, weights, inner=inner, elect=elect, normalise=normalise)
    needed = tensors if task is None else [tensors[task - 1]]
    votes = like(total, np.int32)
    votes.fill(0)
    for tensor in needed:
        with frame():
            votes += tall_mask(tensor, total, threshold)
    return np.multiply(total, votes >= (k if task is None else 1), out=total)
