"""Balanced assignment of vectors to codes, such that all codes are used about equally often.

Entropy-regularised optimal transport from vectors to codes, by Sinkhorn's alternating scaling (Cuturi, "Sinkhorn
Distances", 2013), as LC-Rec (Zheng et al., 2024, section III-B) uses it for the last level. It works on logarithms, since at
ε = 0.003 the weights span hundreds of orders of magnitude.

Shapes: B sets of vectors, N vectors, C codes.
"""

import math

import torch
from torch import Tensor

STEPS_AT_ONCE = 10
LARGEST_LOG_FACTOR = 100.0  # two factors of e^100 cannot restore values below e^-745, the smallest float64


@torch.no_grad()
def log_transport_plan(distances: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Logarithm of the transport plan for distances [..., N, C]: [..., N, C]; each leading index is a separate problem.

    Every code (column) receives exactly N / C in total; every vector (row) gives 1, as far as `iterations` converge.

    Args:
        distances: finite. Scaled to a range of 2 within each problem, so that ε means the same for all.
        epsilon: > 0, weight of the entropy; the smaller, the closer to an unregularised assignment.
    """
    if epsilon <= 0:
        raise ValueError(f"Sinkhorn: epsilon {epsilon}; expected more than 0")
    *_, n, codes = distances.shape
    low = distances.amin((-2, -1), keepdim=True)
    half_span = (distances.amax((-2, -1), keepdim=True) - low) / 2
    cost = (distances - low) / half_span.clamp_min(torch.finfo(distances.dtype).tiny)
    weights = -cost.double() / epsilon
    share = math.log(n / codes)
    # The first step is the largest and nearly always leaves the bounds of scaling.
    weights = _by_logarithms(weights, share, min(1, iterations))
    for done in range(1, iterations, STEPS_AT_ONCE):
        steps = min(STEPS_AT_ONCE, iterations - done)
        scaled = _by_scaling(weights, share, steps)
        weights = _by_logarithms(weights, share, steps) if scaled is None else scaled
    return weights.to(distances.dtype)


def _by_logarithms(weights: Tensor, share: float, steps: int) -> Tensor:
    """`steps` iterations in the log domain: always stable, two exponentials per weight and iteration."""
    for _ in range(steps):
        weights = weights - weights.logsumexp(-1, keepdim=True)
        weights = weights - weights.logsumexp(-2, keepdim=True) + share
    return weights


def _by_scaling(weights: Tensor, share: float, steps: int) -> Tensor | None:
    """The same iterations by row and column factors, one exponential per weight; None if a factor leaves its bounds.

    Within the bounds, weights that underflowed to zero could not have mattered.
    """
    plan = weights.exp()
    columns = torch.ones_like(plan[..., :1, :]).transpose(-1, -2)
    rows = torch.ones_like(plan[..., :1])
    for _ in range(steps):
        rows = 1 / (plan @ columns)
        columns = math.exp(share) / (plan.transpose(-1, -2) @ rows)
    factors = rows.log(), columns.log()
    if not all(bool((factor.abs() < LARGEST_LOG_FACTOR).all()) for factor in factors):  # also false for NaN
        return None
    return weights + factors[0] + factors[1].transpose(-1, -2)


def balanced_assignment(distances: Tensor, epsilon: float, iterations: int) -> Tensor:
    """int64 [..., N]: each vector's code, the largest weight in its row of the transport plan for distances [..., N, C]."""
    return log_transport_plan(distances, epsilon, iterations).argmax(-1)
