"""`pcb`: each element of each task vector gets the share that it earns within its source and against the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import merge_method, weighted_sum
from mmgrid.merging.methods.stages.base import share_of

_RUN = 1 << 16  # elements whose float64 values are held at once


@merge_method(needs="tensor", returns="delta", base="required")
def pcb(
    tensors: Sequence[Floats],
    weights: Sequence[float],
    *,
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.1,
    clip: Annotated[float, Field(ge=0, lt=0.5)] = 0.0001,
) -> Floats:
    """Δ = Σ wᵢ sᵢ ⊙ clip(τᵢ) / Σ sᵢ, where the share sᵢ is the balance βᵢ from its ⌈ratio · n⌉-th largest on, scaled.

    βᵢ = exp(N · |τᵢ|²) ⊙ tanh(τᵢ ⊙ Σⱼ τⱼ): large elements of a source count (intra-balancing; |τᵢ| is clipped and
    brought to 0 … 1), if the sources agree on them (inter-balancing). sᵢ = (βᵢ − t) / (max βᵢ − t), and 0 below the
    threshold t, the ⌈ratio · n⌉-th largest of the n elements of a tensor.

    Paper: Du et al., "Parameter competition balancing for model merging", NeurIPS 2024,
    https://arxiv.org/abs/2410.02396, in the form of the code that its authors published, `PCB_merge` (the paper
    writes a softmax in the places of both exp and tanh).

    Edges: balances, threshold and clipping are those of one tensor (the authors: of the whole model, flattened). The
    ⌊clip · n⌋ largest and smallest magnitudes are set to the next one. Weights act on what is added up, and neither
    on the balances nor on the divisor. Where a tensor has one magnitude, |τᵢ|² is 0; where the threshold is the largest
    balance (short vectors, scalars), what reaches it has share 1 if it is positive. An element without any share
    is the base's. One source competes with nobody: it gives w τ.

    Args:
        tensors: τᵢ, float32, one shape.
        weights: wᵢ, one per tensor.
        ratio: share of the elements whose balance counts.
        clip: share of the largest and of the smallest magnitudes that is clipped.
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
    """The least and the largest magnitude that is left when a share of them is clipped at either end."""
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
