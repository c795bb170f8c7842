"""The weighted or elected sum that most methods compute, in numbers that a compiled loop can work from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Combination:
    """A weighted sum of the sources, or of those that agree with the elected sign (`consensus.elected`).

    Attributes:
        weights: wᵢ, in the order of the sources' names.
        divisor: divides the plain sum; None for no division. Elected sums ignore it.
        votes: the weights in the election of the sign; None for the plain sum.
        by_weight: whether agreement is judged by the weighted task vectors, so that a negative weight flips their sign.
        normalise: whether the elected sum is divided by the weights of the sources that agree.
    """

    weights: Sequence[float]
    divisor: float | None = None
    votes: Sequence[float] | None = None
    by_weight: bool = False
    normalise: bool = False


# (weights, resolved options) → a combination that gives the same bits as the method's function.
Combining = Callable[[Sequence[float], Mapping[str, Any]], Combination]
