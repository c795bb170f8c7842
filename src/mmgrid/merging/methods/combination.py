"""What most methods do with runs of their sources, as numbers: enough for a compiled loop to do it alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Combination:
    """A weighted sum of the sources, or of those whose sign wins (`consensus.elected`).

    Attributes:
        weights: wᵢ, in the order of the sources' names.
        divisor: what the sum is divided by; None if it is not. Of the plain sum only.
        votes: the weights of the vote; None for the plain sum.
        by_weight: whether the weighted task vectors vote, so that a negative weight turns them round.
        normalise: whether the elected sum is divided by the weights of those that take part.
    """

    weights: Sequence[float]
    divisor: float | None = None
    votes: Sequence[float] | None = None
    by_weight: bool = False
    normalise: bool = False


# The weights and the method's resolved options → what its function computes from them, bit for bit.
Combining = Callable[[Sequence[float], Mapping[str, Any]], Combination]
