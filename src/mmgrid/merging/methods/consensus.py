"""Combining task vectors that disagree in sign: sign election and disjoint mean, as in TIES."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mmgrid.merging.arrays.buffers import like
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.methods.base import sum_of_weights, summing, weighted_sum
from mmgrid.merging.methods.combination import Combination, Combining

Elect = Literal["weighted", "plain"]
Inner = Literal["linear", "ties"]


def elected(tensors: Sequence[Floats], weights: Sequence[float], *, elect: Elect, normalise: bool) -> Floats:
    """The weighted sum, element by element, of the task vectors that agree with the elected sign.

    The elected sign is that of Σ wᵢ τᵢ (`weighted`) or Σ τᵢ (`plain`); a sum of zero counts as positive. Zeros do not
    vote and agree with neither sign. With `normalise` the sum is divided by the weights of the task vectors that agree
    (the disjoint mean), except where these weights add up to zero.

    Paper: Yadav et al. 2023, https://arxiv.org/abs/2306.01708, section 3, steps 2 and 3.
    """
    votes = weighted_sum(tensors, weights if elect == "weighted" else [1.0] * len(tensors))
    sign = _signs(votes)
    total, agreeing, takes_part = like(sign), like(sign), like(sign, np.bool_)
    total.fill(0)
    divisor = like(sign) if normalise else total
    if normalise:
        divisor.fill(0)
    for tensor, weight in zip(tensors, weights, strict=True):
        np.multiply(tensor, sign, out=agreeing)
        weight = np.float32(weight)
        if elect == "weighted" and weight < 0:  # the weighted task vector votes, and its sign is flipped
            _positive(np.multiply(agreeing, weight, out=agreeing))
        else:
            np.multiply(_positive(agreeing), weight, out=agreeing)
        total += agreeing
        if normalise:
            np.not_equal(agreeing, 0, out=takes_part)
            divisor += np.multiply(takes_part, weight, out=agreeing)
    if normalise:
        np.equal(divisor, 0, out=takes_part)
        divisor += takes_part
        total /= divisor
    return np.multiply(total, sign, out=total)


def _signs(values: Floats) -> Floats:
    """Replaces each value by +1 or -1: its sign bit with the bits of 1. Five times as fast as copysign."""
    bits = values.view(np.uint32)
    bits &= np.uint32(0x80000000)
    bits |= np.uint32(0x3F800000)
    return values


def _positive(values: Floats) -> Floats:
    """Replaces negative values by zero. Works on the bits as integers, where the sign is the same, and is faster."""
    whole = values.view(np.int32)
    np.maximum(whole, 0, out=whole)
    return values


def combined(
    name: str, tensors: Sequence[Floats], weights: Sequence[float], *, inner: Inner, elect: Elect, normalise: bool
) -> Floats:
    """The weighted sum (`linear`), or the elected sum (`ties`)."""
    if inner == "ties":
        return elected(tensors, weights, elect=elect, normalise=normalise)
    total = weighted_sum(tensors, weights)
    return np.divide(total, np.float32(sum_of_weights(name, weights)), out=total) if normalise else total


def electing(weights: Sequence[float], options: Mapping[str, Any]) -> Combination:
    """`elected` in numbers for the compiled loops."""
    by_weight = options["elect"] == "weighted"
    votes = weights if by_weight else [1.0] * len(weights)
    return Combination(weights, votes=votes, by_weight=by_weight, normalise=options["normalise"])


def combining(name: str) -> Combining:
    """`combined` in numbers for the compiled loops; `name` is the method's name, for errors."""
    inner = {"linear": summing(name), "ties": electing}
    return lambda weights, options: inner[options["inner"]](weights, options)
