"""The vectors of a block that the method combines, compiled: widened, the base subtracted, the stages applied.

A block is small enough that all its vectors stay in a core's L1 cache, and large enough that the overhead of its loops
is negligible. Integers are kept as uint32 throughout: numba widens their sums to 64 bits, which would halve the number
of values per vector register.
"""

import numba
import numpy as np

from mmgrid.merging.kernels.layout import (
    ALL,
    BLOCK,
    COLUMNS,
    COUNTERS,
    DIVIDE,
    DROP,
    ELEMENTS_OF_COUNTER,
    MULTIPLY,
    RUN,
)
from mmgrid.merging.kernels.memory import bytes_at, floats_at, halves_at, long_words_at, numbers_at
from mmgrid.merging.kernels.philox import draw

_WITHOUT_SIGN = np.uint32(0x7FFFFFFF)
_ALL = np.uint64(ALL)
_SIXTEEN = np.uint32(16)
_REST_ELEMENTS = 8  # 32-bit numbers per step of Philox's counter


@numba.njit
def load(address, is_half, first, n, size, values):
    """Widens elements [first, first + n) of an array to float32 `values`; returns the largest bits without sign."""
    bits = values.view(np.uint32)
    most = np.uint32(0)
    if is_half:
        stored = halves_at(address, size)[first : first + n]
        for i in range(n):
            bits[i] = np.uint32(stored[i]) << _SIXTEEN
    else:
        wide = floats_at(address, size)[first : first + n]
        for i in range(n):
            values[i] = wide[i]
    for i in range(n):
        most = max(most, bits[i] & _WITHOUT_SIGN)
    return most


@numba.njit
def subtract(values, base, n):
    """Subtracts `base` from `values` in place; returns the largest bits without sign."""
    most = np.uint32(0)
    bits = values.view(np.uint32)
    for i in range(n):
        values[i] -= base[i]
        most = max(most, bits[i] & _WITHOUT_SIGN)
    return most


@numba.njit
def drop(values, place, n, numbers, planes, words, own):
    """Sets each element to zero for which `random.happens` is true; `place` is the index of the first element."""
    block, skip = place // ELEMENTS_OF_COUNTER, place % ELEMENTS_OF_COUNTER
    draw(numbers[0], numbers[1], block, (skip + n + ELEMENTS_OF_COUNTER - 1) // ELEMENTS_OF_COUNTER, planes, words)
    halves = words.view(np.uint16)[skip : skip + n]
    first, rest = numbers[2], numbers[5]
    if first < np.uint64(1 << 16):
        limit, n_open = np.uint16(first), 0
        for i in range(n):
            values[i] *= np.float32(halves[i] >= limit)
        for i in range(n):
            n_open += halves[i] == limit
        if n_open:
            # Undecided elements are kept so far; 32 more bits decide.
            for i in range(n):
                if halves[i] == limit:
                    element = place + i
                    draw(numbers[3], numbers[4], element // _REST_ELEMENTS, 1, planes, own)
                    if np.uint64(own.view(np.uint32)[element % _REST_ELEMENTS]) < rest:
                        values[i] *= np.float32(0)
    else:
        for i in range(n):
            values[i] *= np.float32(0)


@numba.njit
def _above(bits, n, limit, left, chosen):
    """Writes whether each element is above a threshold to `chosen`.

    `left` is the number of elements equal to the threshold that still count as above it; returns the rest of it.
    """
    if left == 0:
        for i in range(n):
            chosen[i] = np.uint8((bits[i] & _WITHOUT_SIGN) > limit)
    else:
        for i in range(n):
            chosen[i] = np.uint8((bits[i] & _WITHOUT_SIGN) >= limit)
        if left < _ALL:
            equal = 0
            for i in range(n):
                equal += (bits[i] & _WITHOUT_SIGN) == limit
            if np.uint64(equal) <= left:
                left -= np.uint64(equal)
            else:
                for i in range(n):
                    if (bits[i] & _WITHOUT_SIGN) == limit:
                        if left:
                            left -= np.uint64(1)
                        else:
                            chosen[i] = np.uint8(0)
    return left


@numba.njit
def window(values, n, numbers, left, chosen, other):
    """Sets elements outside a window to zero.

    Columns 0 and 1 of `numbers` are the bits of its lower and upper threshold; `left` holds, for each, how many
    elements equal to it still count as above it, and is updated.
    """
    bits = values.view(np.uint32)
    is_single = numbers[1] >= np.uint64(1 << 31)  # nothing is above the upper threshold
    if is_single and (left[0] == 0 or left[0] >= _ALL):  # nearly always: all equal elements are treated the same
        limit = np.uint32(numbers[0] + np.uint64(left[0] == 0))
        for i in range(n):
            values[i] *= np.float32((bits[i] & _WITHOUT_SIGN) >= limit)
        return
    left[0] = _above(bits, n, np.uint32(numbers[0]), left[0], chosen)
    if not is_single:
        left[1] = _above(bits, n, np.uint32(numbers[1]), left[1], other)
        for i in range(n):
            chosen[i] ^= other[i]
    for i in range(n):
        values[i] *= np.float32(chosen[i])


@numba.njit
def block(run, first, n, room, worst):
    """Computes the vectors of elements [first, first + n) of a run in `room`.

    Returns the largest bits, without sign, of `worst`, the values read and the differences. `run` and `room` come from
    `open_run` and `open_room`.
    """
    size, place, on_deltas, sources, halves, bounds, operations, numbers, factors, left = run
    vectors, base, planes, words, own, chosen, other = room
    n_sources = len(vectors)
    if on_deltas:
        worst = max(worst, load(sources[n_sources], halves[n_sources] != 0, first, n, size, base))
    for s in range(n_sources):
        values = vectors[s]
        worst = max(worst, load(sources[s], halves[s] != 0, first, n, size, values))
        if on_deltas:
            worst = max(worst, subtract(values, base, n))
            for k in range(bounds[s], bounds[s + 1]):
                if operations[k] == MULTIPLY:
                    factor = factors[k]
                    for i in range(n):
                        values[i] *= factor
                elif operations[k] == DIVIDE:
                    factor = factors[k]
                    for i in range(n):
                        values[i] /= factor
                elif operations[k] == DROP:
                    drop(values, place + first, n, numbers[k], planes, words, own)
                else:
                    window(values, n, numbers[k], left[k], chosen, other)
    return worst


@numba.njit
def open_run(address):
    """Opens a run from the table that `tables.RunTable` lays out."""
    table = numbers_at(address, RUN)
    n, k = table[2], table[3]
    return (
        table[0],
        table[1],
        table[4] != 0,
        numbers_at(table[6], n + 1),
        numbers_at(table[7], n + 1),
        numbers_at(table[8], n + 1),
        numbers_at(table[9], k),
        long_words_at(table[10], (k, COLUMNS)),
        floats_at(table[11], k),
        long_words_at(table[12], (k, 2)),
    )


@numba.njit
def open_room(address, n_sources):
    """Scratch memory for one block, in `layout.room_bytes`: vectors, base, and scratch of stages and combinations."""
    planes = address
    words = planes + 32 * COUNTERS
    own = words + 32 * COUNTERS
    spare = own + 64
    base = spare + 12 * BLOCK
    chosen = base + 4 * BLOCK
    other = chosen + BLOCK
    vectors = other + BLOCK
    block_room = (
        floats_at(vectors, (n_sources, BLOCK)),
        floats_at(base, BLOCK),
        long_words_at(planes, (4, COUNTERS)),
        long_words_at(words, 4 * COUNTERS),
        long_words_at(own, 4),
        bytes_at(chosen, BLOCK),
        bytes_at(other, BLOCK),
    )
    return block_room, floats_at(spare, (3, BLOCK))
