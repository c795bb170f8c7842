"""Merging a chain of checkpoints over time: mean velocity, acceleration, exponential decay.

The sources are the chain, sorted by name, oldest first (name them t0, t1, t2, or 2023-01, 2023-04, …). To interpolate
or extrapolate between two checkpoints, Θ(t1) + λ (Θ(t2) − Θ(t1)), use `task_arithmetic` with the older one as the base.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods.base import merge_method


@merge_method(needs="element", returns="weights", base="none")
def velocity(gram: np.ndarray, weights: Sequence[float], *, step: float = 1.0) -> list[float]:
    """θ = θ_K + s · (θ_K − θ_0) / K: extrapolates from the newest checkpoint at the chain's mean velocity.

    Paper: the temporal direction of arXiv 2601.15930, eq. 9 (https://arxiv.org/abs/2601.15930), over a whole chain.

    Edges: at least two checkpoints; s = 0 gives the newest one. Weights must be equal, and have no effect.

    Args:
        gram: unused.
        weights: all 1, one per checkpoint.
        step: s, in phases; negative values go back in time.

    Raises:
        MergeError: there is only one checkpoint, or weights differ.
    """
    k = _last("velocity", weights, 2)
    return [-step / k, *[0.0] * (k - 1), 1 + step / k]


@merge_method(needs="element", returns="weights", base="none")
def acceleration(gram: np.ndarray, weights: Sequence[float], *, step: float = 1.0) -> list[float]:
    """θ = θ_K + s v + s (s + 1) / 2 · a, with v = θ_K − θ_{K−1} and a = θ_K − 2 θ_{K−1} + θ_{K−2}.

    The parabola through the three newest checkpoints, evaluated s phases after the newest.

    Paper: the temporal direction of arXiv 2601.15930, eq. 9 (https://arxiv.org/abs/2601.15930), to second order
    (Newton's backward differences).

    Edges: at least three checkpoints; s = 0 gives the newest one, s = −1 and s = −2 the two before. Weights must be
    equal, and have no effect.

    Args:
        gram: unused.
        weights: all 1, one per checkpoint.
        step: s, in phases; negative values go back in time.

    Raises:
        MergeError: there are fewer than three checkpoints, or weights differ.
    """
    k = _last("acceleration", weights, 3)
    second = step * (step + 1) / 2
    return [*[0.0] * (k - 2), second, -step - 2 * second, 1 + step + second]


@merge_method(needs="element", returns="weights", base="none")
def decay(
    gram: np.ndarray, weights: Sequence[float], *, rate: Annotated[float, Field(gt=0, le=1)] = 0.5
) -> list[float]:
    """θ = Σ γ^{K−k} θ_k / Σ γ^{K−k}: the older a checkpoint, the smaller its weight.

    Paper: Morales-Brotons et al., "Exponential moving average of weights in deep learning", TMLR 2024,
    https://arxiv.org/abs/2411.18704, over phases instead of steps.

    Edges: γ = 1 is the plain average. A single checkpoint is returned unchanged. Weights must be equal, and have no
    effect.

    Args:
        gram: unused.
        weights: all 1, one per checkpoint.
        rate: γ, the factor on the weight for each phase further back.

    Raises:
        MergeError: weights differ.
    """
    k = _last("decay", weights, 1)
    shares = [rate ** (k - position) for position in range(k + 1)]
    return [share / sum(shares) for share in shares]


def _last(name: str, weights: Sequence[float], at_least: int) -> int:
    if len(weights) < at_least:
        raise MergeError(f"{name}: takes a chain of at least {at_least} checkpoints, not {len(weights)}")
    if len(set(weights)) > 1:
        raise MergeError(f"{name}: takes no weights; leave them out")
    return len(weights) - 1
