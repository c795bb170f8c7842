"""Combining a block of vectors, compiled: the weighted sum, the elected sum of `methods.consensus`, and rounding."""

import numba
import numpy as np

_SIGN, _ONE, _WITHOUT_SIGN = np.uint32(0x80000000), np.uint32(0x3F800000), np.uint32(0x7FFFFFFF)
_SIXTEEN, _LAST, _NEARLY_HALF = np.uint32(16), np.uint32(1), np.uint32(0x7FFF)


@numba.njit
def weighted_sum(vectors, weights, n, total):
    """Writes Σ wᵢ xᵢ, in the order of the sources, to `total`; each product is rounded before it is added."""
    first = vectors[0]
    for i in range(n):
        total[i] = first[i] * weights[0]
    for s in range(1, len(vectors)):
        values, weight = vectors[s], weights[s]
        for i in range(n):
            total[i] += values[i] * weight


@numba.njit
def elected(vectors, weights, votes, weighted, normalise, n, total, signs, divisor):
    """Writes `consensus.elected` to `total`. `votes` are the election's weights; `signs` and `divisor` are scratch."""
    weighted_sum(vectors, votes, n, signs)
    bits = signs.view(np.uint32)
    for i in range(n):
        bits[i] = (bits[i] & _SIGN) | _ONE
        total[i] = np.float32(0)
        divisor[i] = np.float32(0)
    for s in range(len(vectors)):
        values, weight = vectors[s], weights[s]
        turned = weighted and weight < np.float32(0)
        for i in range(n):
            agreeing = values[i] * signs[i]
            if turned:
                agreeing *= weight
            agreeing = agreeing if agreeing > np.float32(0) else np.float32(0)
            if not turned:
                agreeing *= weight
            total[i] += agreeing
            if normalise:
                divisor[i] += np.float32(agreeing != np.float32(0)) * weight
    if normalise:
        for i in range(n):
            total[i] /= divisor[i] + np.float32(divisor[i] == np.float32(0))
    for i in range(n):
        total[i] *= signs[i]


@numba.njit
def largest(values, n):
    """The largest bits without sign; the bits of NaN are larger than those of any other value."""
    bits, most = values.view(np.uint32), np.uint32(0)
    for i in range(n):
        most = max(most, bits[i] & _WITHOUT_SIGN)
    return most


@numba.njit
def store_halves(values, n, stored):
    """Rounds to bfloat16, ties to even, and stores."""
    bits = values.view(np.uint32)
    for i in range(n):
        odd = (bits[i] >> _SIXTEEN) & _LAST
        stored[i] = np.uint16(np.uint32(bits[i] + odd + _NEARLY_HALF) >> _SIXTEEN)


@numba.njit
def store_floats(values, n, stored):
    """Stores float32 values unchanged."""
    for i in range(n):
        stored[i] = values[i]
