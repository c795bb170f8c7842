"""Philox 4×64 with ten rounds, compiled: the same bits as numpy's Philox in `methods.stages.random`.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, including the constants.

The code is written so that the compiler can draw for several counters at once with vector registers: the rounds are
unrolled, and the upper half of a 64-bit product is assembled from 32-bit products, which vector registers support. This
takes half the time of one counter after the other.
"""

import numba
import numpy as np

_FIRST, _SECOND = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_FIRST_STEP, _SECOND_STEP = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@numba.njit(inline="always")
def _high(one, other):
    """The upper 64 bits of the product of two 64-bit numbers."""
    one_low, one_high, other_low, other_high = one & _LOW, one >> _HALF, other & _LOW, other >> _HALF
    across = one_high * other_low
    middle = ((one_low * other_low) >> _HALF) + (across & _LOW) + one_low * other_high
    return one_high * other_high + (across >> _HALF) + (middle >> _HALF)


@numba.njit(inline="always")
def _round(a, b, c, d, key, other_key):
    return _high(_SECOND, c) ^ b ^ key, _SECOND * c, _high(_FIRST, a) ^ d ^ other_key, _FIRST * a


@numba.njit(inline="always")
def _drawn(counter, k, l):  # noqa: E741
    """The four 64-bit numbers of a counter, under a key of two 64-bit words."""
    zero = np.uint64(0)
    a, b, c, d = _round(counter, zero, zero, zero, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    a, b, c, d = _round(a, b, c, d, k, l)
    k, l = k + _FIRST_STEP, l + _SECOND_STEP  # noqa: E741
    return _round(a, b, c, d, k, l)


@numba.njit(nogil=True)
def draw(key, other_key, block, n, planes, words):
    """Writes the 4 n numbers of `n` counters from `block` on to `words`, uint64. `planes`, uint64 [4, ≥ n], is scratch.

    numpy increments the counter before it draws, so its block 0 has counter 1.
    """
    one, two, three, four = planes[0], planes[1], planes[2], planes[3]
    for i in range(n):
        one[i], two[i], three[i], four[i] = _drawn(np.uint64(block + i + 1), key, other_key)
    for i in range(n):
        words[4 * i] = one[i]
        words[4 * i + 1] = two[i]
        words[4 * i + 2] = three[i]
        words[4 * i + 3] = four[i]
