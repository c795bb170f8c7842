"""Balanced assignment: which code each vector takes if all codes are to be taken about equally often.

Entropy-regularised optimal transport from vectors to codes, by Sinkhorn's alternating scaling (Cuturi, "Sinkhorn
Distances", 2013), as LC-Rec (Zheng et al., 2024, section III-B) takes it for the last level. It works on logarithms: at
ε = 0.003 the weights span hundreds of powers of ten.

Shapes: B sets of vectors, N vectors, C codes.
"""

import math

import torch
from torch import Tensor

STEPS_AT_ONCE = 10
LARGEST_LOG_FACTOR = 100.0  # two factors of e^100 do not bring back what is below e^-745, the least float64


@torch.no_grad()
def log_plan(distances: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Logarithm of the transport plan for distances [..., N, C], each leading index a problem of its own: [..., N, C].

    Every code (column) gets N / C in all, exactly; every vector (row) gives 1, up to what `iterations` leave open.

    Args:
        distances: finite. Each problem's are scaled to a span of 2, so that ε means the same for all.
        epsilon: > 0, weight of the entropy; the smaller, the nearer to a plain assignment.
    """
    if epsilon <= 0:
        raise ValueError(f"Sinkhorn: epsilon {epsilon}; expected more than 0")
    *_, n, codes = distances.shape
    low = distances.amin((-2, -1), keepdim=True)
    half_span = (distances.amax((-2, -1), keepdim=True) - low) / 2
    cost = (distances - low) / half_span.clamp_min(torch.finfo(distances.dtype).tiny)
    weights = -cost.double() / epsilon
    share = math.log(n / codes)
    weights = _by_logarithms(weights, share, min(1, iterations))  # the largest step: nearly always out of bounds
    for done in range(1, iterations, STEPS_AT_ONCE):
        steps = min(STEPS_AT_ONCE, iterations - done)
        scaled = _by_scaling(weights, share, steps)
        weights = _by_logarithms(weights, share, steps) if scaled is None else scaled
    return weights.to(distances.dtype)


def _by_logarithms(weights: Tensor, share: float, steps: int) -> Tensor:
    """`steps` iterations in the plain form, which is safe and takes two exponentials per weight and iteration."""
    for _ in range(steps):
        weights = weights - weights.logsumexp(-1, keepdim=True)
        weights = weights - weights.logsumexp(-2, keepdim=True) + share
    return weights


def _by_scaling(weights: Tensor, share: float, steps: int) -> Tensor | None:
    """The same with factors for rows and columns, one exponential per weight; None if a factor leaves its bounds.

    Within the bounds, what has underflowed to zero could not have counted.
    """
    plan = weights.exp()
    columns = torch.ones_like(plan[..., :1, :]).transpose(-1, -2)
    rows = torch.ones_like(plan[..., :1])
    for _ in range(steps):
        rows = 1 / (plan @ columns)
        columns = math.exp(share) / (plan.transpose(-1, -2) @ rows)
    factors = rows.log(), columns.log()
    if not all(bool((factor.abs() < LARGEST_LOG_FACTOR).all()) for factor in factors):  # NaN is not less, either
        return None
    return weights + factors[0] + factors[1].transpose(-1, -2)


def balanced(distances: Tensor, epsilon: float, iterations: int) -> Tensor:
    """int64 [..., N]: the code of the largest weight in each vector's row of the plan for distances [..., N, C]."""
    return log_plan(distances, epsilon, iterations).argmax(-1)
