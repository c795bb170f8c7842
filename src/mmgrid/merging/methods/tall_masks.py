"""`consensus`: of the sum of the task vectors, only what several of the sources would have for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method
from mmgrid.merging.methods.consensus import Elect, Inner, combined


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

    Source i's mask, the TALL-mask, is set where |τᵢ| ≥ |τ − τᵢ| · threshold: where its own change is more
    than what the others make of it. What no source or only one wants (catastrophic and selfish weights) is left out.

    Paper: Wang et al., "Localizing task information for improved model merging and compression", ICML 2024,
    https://arxiv.org/abs/2405.07813 (TALL-masks and consensus merging).

    Edges: where both sides of the comparison are equal the mask is set, as in the paper (the authors' code: not
    set); so an element that no source has changed is set in all masks. k = 0 keeps all: task arithmetic (with
    `inner = "ties"`: TIES without a trim, on whose sum the masks are then taken). The authors choose a threshold from
    0.2 to 0.6 for each source by its validation score; here it is one for all.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        threshold: factor on what the others make of an element; the larger it is, the fewer masks are set.
        k: how many masks must be set.
        task: number of a source in the order of names, from 1: give that source back out of the sum, Δ = mᵢ ⊙ τ with
            its mask alone, as in the paper's compression; k then has no meaning.
        inner: τ is the weighted sum ("linear"), or that of those whose sign wins ("ties").
        elect: for "ties": vote with wᵢ τᵢ ("weighted") or τᵢ ("plain").
        normalise: divide τ by Σ wᵢ; for "ties" by the weights of those that agree.

    Raises:
        MergeError: k or task is more than there are sources, or Σ wᵢ is zero and `normalise` is on.
    """
    n = len(tensors)
    if task is None and k > n:
        raise MergeError(f"consensus: k is {k}, but the masks of {n} sources cannot agree {k} times; lower k")
    if task is not None and task > n:
        raise MergeError(f"consensus: task is {task}, but there are {n} sources; give its place in the order of names")
    total = combined("consensus", tensors, weights, inner=inner, elect=elect, normalise=normalise)
    needed = tensors if task is None else [tensors[task - 1]]
    votes, rest, own = like(total, np.int32), like(total), like(total)
    votes.fill(0)
    for tensor in needed:
        np.abs(np.subtract(total, tensor, out=rest), out=rest)
        rest *= np.float32(threshold)
        votes += np.greater_equal(np.abs(tensor, out=own), rest)
    return np.multiply(total, votes >= (k if task is None else 1), out=total)
