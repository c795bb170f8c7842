"""`sce`: merge the elements in which the sources differ most, each source weighted by how much it changed the tensor."""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, refuse_weights
from mmgrid.merging.methods.stages.base import share_of

_RUN = 1 << 16  # elements held in float64 at once


@merge_method(needs="tensor", returns="delta", base="required")
def sce(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    select: Annotated[float, Field(ge=0, le=1)] = 1.0,
    floor: Annotated[float, Field(ge=0)] = 0.0,
) -> Floats:
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
        tensors: τᵢ, float32, one shape.
        weights: all equal.
        select: share of the varying elements to select; 1 selects all elements.
        floor: if the mean squares of all sources add up to less, they get equal ηᵢ; and the least divisor Σ ηᵢ.

    Raises:
        MergeError: weights differ.
    """
    refuse_weights("sce", weights)
    flat = [tensor.reshape(-1) for tensor in tensors]
    size = flat[0].size
    selected = _selected(flat, select)
    means = [
        math.fsum(float(np.square(_part(tensor, selected, run)).sum()) for run in _runs(size)) / max(size, 1)
        for tensor in flat
    ]
    total = math.fsum(means)
    shares = [mean / total for mean in means] if total and total >= floor else [1 / len(flat)] * len(flat)
    result = np.zeros(size, np.float32)
    for run in _runs(size):
        parts = [_part(tensor, selected, run) for tensor in flat]
        sign = np.where(sum(parts) >= 0, 1.0, -1.0)
        agrees = [share * (np.sign(part) == sign) for part, share in zip(parts, shares, strict=True)]
        divisor = np.maximum(sum(agrees), floor)
        above = sum(part * own for part, own in zip(parts, agrees, strict=True))
        result[run] = np.divide(above, divisor, out=np.zeros(run.stop - run.start), where=divisor > 0)
    return result.reshape(tensors[0].shape)


def _runs(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _RUN, n)) for start in range(0, n, _RUN))


def _part(tensor: Floats, selected: NDArray[np.bool_] | None, run: slice) -> NDArray[np.float64]:
    """A run in float64, zero where it is not selected."""
    part = tensor[run].astype(np.float64)
    return part if selected is None else part * selected[run]


def _selected(tensors: Sequence[Floats], select: float) -> NDArray[np.bool_] | None:
    """The selected elements; None for all."""
    if select == 1 or not tensors[0].size:
        return None
    variance = np.concatenate([_variance([tensor[run] for tensor in tensors]) for run in _runs(tensors[0].size)])
    selected = np.zeros(variance.size, np.bool_)
    k = share_of(select, int(np.count_nonzero(variance)))
    if not k:
        return selected
    threshold = np.partition(variance, variance.size - k)[variance.size - k]
    np.greater(variance, threshold, out=selected)
    equal = np.flatnonzero(variance == threshold)
    selected[equal[: k - int(np.count_nonzero(selected))]] = True
    return selected


def _variance(runs: Sequence[Floats]) -> NDArray[np.float64]:
    """The variance over the sources; exactly zero where all are equal."""
    first = runs[0].astype(np.float64)
    away = np.stack([run - first for run in runs])
    return np.square(away - away.mean(axis=0)).mean(axis=0)
