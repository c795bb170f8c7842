"""A block of a run as the method sees it, compiled: widened, the base subtracted, the stages done.

A block is small enough that all its vectors stay in a core's first-level cache, and large enough that starting its
loops costs nothing. Whole numbers are kept as uint32 all along: numba widens sums of them to 64 bits, which would
halve what a register holds.
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
_REST_ELEMENTS = 8  # numbers of 32 bits that a step of Philox's counter gives


@numba.njit
def load(address, is_half, first, n, size, values):
    """Elements [first, first + n) of an array of `size` at an address into `values`; the largest bits without sign."""
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
    """`values` − `base`, in the place of `values`; the largest bits without sign."""
    most = np.uint32(0)
    bits = values.view(np.uint32)
    for i in range(n):
        values[i] -= base[i]
        most = max(most, bits[i] & _WITHOUT_SIGN)
    return most


@numba.njit
def drop(values, place, n, numbers, planes, words, own):
    """Zero in the place of each element to which `random.happens` says that it happens; `place` is the first one's."""
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
            # The open ones were kept so far; 32 more bits decide.
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
    """Whether each element lies above a cut, into `chosen`; how many of its equals may still lie above it."""
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
    """Zero outside of two cuts, bits in columns 0 and 1 of `numbers`; `left`, how many equals each still has."""
    bits = values.view(np.uint32)
    is_single = numbers[1] >= np.uint64(1 << 31)  # nothing lies above the other cut
    if is_single and (left[0] == 0 or left[0] >= _ALL):  # nearly always: no equals to be told apart
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
    """The vectors of elements [first, first + n) of a run into `room`; the largest bits so far, or of these if larger.

    `run` and `room` are what `open_run` and `open_room` give.
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
    """A run from its table, as `tables.RunTable` lays it out."""
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
    """Room for one block: vectors, base, and what stages and combinations need, in `layout.room_bytes`."""
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
