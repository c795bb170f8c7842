"""`pcb`: weight each element by its importance within its source and its agreement with the other sources."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, weighted_sum
from mmgrid.merging.methods.stages.base import share_of

_RUN = 1 << 16  # elements held in float64 at once


@merge_method(needs="tensor", returns="delta", base="required")
def pcb(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.1,
    clip: Annotated[float, Field(ge=0, lt=0.5)] = 0.0001,
) -> Floats:
    """Δ = Σ wᵢ sᵢ ⊙ clip(τᵢ) / Σ sᵢ, where sᵢ is the balance βᵢ, scaled to 0 … 1 above a threshold and 0 below it.

    βᵢ = exp(N · |τᵢ|²) ⊙ tanh(τᵢ ⊙ Σⱼ τⱼ) favours elements that are large in their source (intra-balancing; |τᵢ| is
    clipped and scaled to 0 … 1) and on which the sources agree (inter-balancing). sᵢ = (βᵢ − t) / (max βᵢ − t) above
    the threshold t, the ⌈ratio · n⌉-th largest balance of the n elements of a tensor.

    Paper: Du et al., "Parameter competition balancing for model merging", NeurIPS 2024,
    https://arxiv.org/abs/2410.02396, in the form of its authors' code, `PCB_merge` (the paper writes a softmax in
    place of both exp and tanh).

    Edges: balances, threshold and clipping are per tensor (the authors: over the whole model, flattened). The
    ⌊clip · n⌋ largest and the ⌊clip · n⌋ smallest magnitudes are set to the nearest remaining one. Weights apply to the
    summed terms, not to the balances or the divisor. If all magnitudes of a tensor are equal, |τᵢ|² is 0. If the
    threshold equals the largest balance (short vectors, scalars), elements that reach it have sᵢ = 1 if it is positive.
    Elements for which every sᵢ is 0 keep the base's value. A single source gives w τ.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        ratio: share of the elements at or above the threshold.
        clip: share of the magnitudes to clip at each end.
    """
    if len(tensors) == 1 or not tensors[0].size:
        return weighted_sum(tensors, weights)
    flat = [tensor.reshape(-1) for tensor in tensors]
    bounds = [_bounds(tensor, clip) for tensor in flat]
    spans = []
    for number in range(len(flat)):
        balance = np.concatenate([_balance(flat, number, bounds[number], run) for run in _runs(flat[0].size)])
        rank = balance.size - max(-share_of(-ratio, balance.size), 1)
        balance.partition(rank)
        spans.append((balance[rank], balance[rank:].max()))
    result = np.empty(flat[0].size, np.float32)
    for run in _runs(result.size):
        total, divisor = np.zeros(run.stop - run.start), np.zeros(run.stop - run.start)
        for number, (tensor, weight) in enumerate(zip(flat, weights, strict=True)):
            share = _share(_balance(flat, number, bounds[number], run), *spans[number])
            total += share * weight * np.sign(tensor[run]) * _clipped(tensor[run], bounds[number])
            divisor += share
        result[run] = np.divide(total, divisor, out=np.zeros_like(total), where=divisor > 0)
    return result.reshape(tensors[0].shape)


def _runs(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _RUN, n)) for start in range(0, n, _RUN))


def _bounds(tensor: Floats, clip: float) -> tuple[float, float]:
    """The smallest and the largest magnitude after clipping a share at each end."""
    n, clipped = tensor.size, share_of(clip, tensor.size)
    ordered = np.partition(np.abs(tensor), (clipped, n - 1 - clipped))
    return float(ordered[clipped]), float(ordered[n - 1 - clipped])


def _clipped(values: Floats, bounds: tuple[float, float]) -> np.ndarray:
    """The magnitudes, within bounds."""
    return np.clip(np.abs(values.astype(np.float64)), *bounds)


def _balance(tensors: Sequence[Floats], number: int, bounds: tuple[float, float], run: slice) -> np.ndarray:
    """βᵢ of a run."""
    low, high = bounds
    own = tensors[number][run].astype(np.float64)
    together = np.zeros_like(own)
    for tensor in tensors:
        together += tensor[run]
    size = (_clipped(tensors[number][run], bounds) - low) / (high - low) if high > low else np.zeros_like(own)
    return np.exp(len(tensors) * size**2) * np.tanh(own * together)


def _share(balance: np.ndarray, threshold: float, largest: float) -> np.ndarray:
    """Balances from the threshold on, scaled to 0 … 1."""
    if largest > threshold:
        return np.maximum(balance - threshold, 0) / (largest - threshold)
    return ((balance >= threshold) & (balance > 0)).astype(np.float64)
