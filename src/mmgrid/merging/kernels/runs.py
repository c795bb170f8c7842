"""The compiled loops over a run, each from the sources' bytes to its result, block by block.

Their arguments are the addresses of tables and arrays that `tables` prepares. They call no Python and allocate no
memory, so that their machine code can be cached and loaded without numba. Loops that read sources return the largest
bits, without sign, of all values read and of all differences: if these bits are not those of a finite number, the
result is invalid.
"""

import numba
import numpy as np

from mmgrid.merging.kernels.combining import elected, largest, store_floats, store_halves, weighted_sum
from mmgrid.merging.kernels.layout import (
    BASE,
    BLOCK,
    NO_VALUE,
    RUN,
    SEARCH,
    SLOT_BITS,
    SLOTS,
    SPARE_WORDS,
    SUM,
    VARIANT,
)
from mmgrid.merging.kernels.memory import floats_at, halves_at, numbers_at, words_at
from mmgrid.merging.kernels.squeezing import squeezed
from mmgrid.merging.kernels.vectors import block, open_room, open_run

_WITHOUT_SIGN, _LOWER, _SIXTEEN = np.uint32(0x7FFFFFFF), np.uint32(0xFFFF), np.uint32(16)
_NO_VALUE, _SPREAD, _SLOT_SHIFT = np.uint32(NO_VALUE), np.uint32(2654435769), np.uint32(32 - SLOT_BITS)


@numba.njit(error_model="numpy")
def merged(run_table, room_address, variants, n_variants, kept):
    """Computes each variant; with stages, adds the number of nonzero elements of each vector to `kept`, int64 [n].

    A row of `variants` has ten numbers: BASE, SUM or ELECTED; address of the weights of the sum and of the vote,
    float32 [2, n]; address of divisor and scale, float32 [2]; whether to divide the sum, to scale, to vote with
    weights, to take the disjoint mean; address of the result; whether the result is bfloat16 (else float32); and, as
    output, the largest bits of the result before rounding.
    """
    run = open_run(run_table)
    size, on_deltas, n_sources = run[0], run[2], len(run[3]) - 1
    has_stages = numbers_at(run_table, RUN)[5] != 0
    room, spare = open_room(room_address, n_sources)
    vectors, base = room[0], room[1]
    total, signs, divisor = spare[0], spare[1], spare[2]
    table = numbers_at(variants, (n_variants, VARIANT))
    counts = numbers_at(kept, n_sources)
    worst = np.uint32(0)
    for first in range(0, size, BLOCK):
        n = min(BLOCK, size - first)
        worst = block(run, first, n, room, worst)
        if has_stages:
            for s in range(n_sources):
                values, count = vectors[s], 0
                for i in range(n):
                    count += values[i] != np.float32(0)
                counts[s] += count
        for v in range(n_variants):
            row = table[v]
            weights, scalars = floats_at(row[1], (2, n_sources)), floats_at(row[2], 2)
            if row[0] == BASE:
                for i in range(n):
                    total[i] = base[i]
            else:
                if row[0] == SUM:
                    weighted_sum(vectors, weights[0], n, total)
                    if row[3]:
                        divide_by = scalars[0]
                        for i in range(n):
                            total[i] /= divide_by
                else:
                    elected(vectors, weights[0], weights[1], row[5] != 0, row[6] != 0, n, total, signs, divisor)
                if on_deltas:
                    if row[4]:
                        scale = scalars[1]
                        for i in range(n):
                            total[i] *= scale
                    for i in range(n):
                        total[i] = base[i] + total[i]
            row[9] = max(row[9], np.int64(largest(total, n)))
            if row[8]:
                store_halves(total, n, halves_at(row[7], size)[first : first + n])
            else:
                store_floats(total, n, floats_at(row[7], size)[first : first + n])
    return worst


@numba.njit(error_model="numpy")
def magnitudes(run_table, room_address, targets):
    """Writes the bits of the magnitudes of each of n vectors to uint32 [size] at the n addresses in `targets`."""
    run = open_run(run_table)
    size, n_sources = run[0], len(run[3]) - 1
    (room, _), addresses = open_room(room_address, n_sources), numbers_at(targets, n_sources)
    worst = np.uint32(0)
    for first in range(0, size, BLOCK):
        n = min(BLOCK, size - first)
        worst = block(run, first, n, room, worst)
        for s in range(n_sources):
            bits, target = room[0][s].view(np.uint32), words_at(addresses[s], size)[first : first + n]
            for i in range(n):
                target[i] = bits[i] & _WITHOUT_SIGN
    return worst


@numba.njit(error_model="numpy")
def counted(run_table, room_address, searches, n_searches):
    """Counts for threshold searches: elements above an interval of bits, and the elements inside it.

    A row of `searches` has six numbers: the source; the lowest and the highest bits of the interval; address of
    uint32 [size + SPARE_WORDS], which gets the distance to the lowest bits of each element inside the interval; and, as
    output, the number of elements above the interval and inside it.
    """
    run = open_run(run_table)
    size, n_sources = run[0], len(run[3]) - 1
    (room, _), table = open_room(room_address, n_sources), numbers_at(searches, (n_searches, SEARCH))
    worst = np.uint32(0)
    for first in range(0, size, BLOCK):
        n = min(BLOCK, size - first)
        worst = block(run, first, n, room, worst)
        for m in range(n_searches):
            row = table[m]
            values, low, high, beyond = room[0][row[0]], np.uint32(row[1]), np.uint32(row[2]), 0
            bits, target = values.view(np.uint32), words_at(row[3], size + SPARE_WORDS)
            for i in range(n):
                beyond += (bits[i] & _WITHOUT_SIGN) > high
            end = squeezed(bits, values.ctypes.data, n, low, np.uint32(high - low), target, row[3], row[5])
            row[4] += beyond
            row[5] = end
    return worst


@numba.njit(error_model="numpy")
def distinct(address, n, shift, values, counts):
    """Writes the distinct values of uint32 [n], shifted right, to `values`, and how often each occurs to `counts`.

    Returns the number of distinct values; if it is more than half of SLOTS, there were too many and the output is
    invalid. `values` and `counts` are uint32 [SLOTS]. No shifted number may be NO_VALUE.
    """
    numbers, by = words_at(address, n), np.uint32(shift)
    keys, tallies = words_at(values, SLOTS), words_at(counts, SLOTS)
    for slot in range(SLOTS):
        keys[slot] = _NO_VALUE
        tallies[slot] = 0
    found = 0
    for i in range(n):
        number = numbers[i] >> by
        slot = np.int64(np.uint32(number * _SPREAD) >> _SLOT_SHIFT)
        while keys[slot] != number and keys[slot] != _NO_VALUE:
            slot = (slot + 1) & (SLOTS - 1)
        if keys[slot] == _NO_VALUE:
            keys[slot] = number
            found += 1
            if found > SLOTS // 2:
                return np.uint32(found)
        tallies[slot] += 1
    end = 0
    for slot in range(SLOTS):
        if keys[slot] != _NO_VALUE:
            keys[end], tallies[end] = keys[slot], tallies[slot]
            end += 1
    return np.uint32(found)


@numba.njit(error_model="numpy")
def ranked(address, n, rank, room, equals):
    """The rank-th largest of uint32 [n] below 2³¹; `equals`, int64 [1], gets how many of the `rank` largest equal it.

    `room` is scratch, int64 [1 << 16]. Counts the upper halves of the bits first, then the lower halves of the numbers
    with the upper half that was found.
    """
    bits, counts, left = words_at(address, n), numbers_at(room, 1 << 16), numbers_at(equals, 1)
    for i in range(1 << 15):
        counts[i] = 0
    for i in range(n):
        counts[bits[i] >> _SIXTEEN] += 1
    upper = (1 << 15) - 1
    while counts[upper] < rank:
        rank -= counts[upper]
        upper -= 1
    for i in range(1 << 16):
        counts[i] = 0
    for i in range(n):
        if bits[i] >> _SIXTEEN == np.uint32(upper):
            counts[bits[i] & _LOWER] += 1
    lower = (1 << 16) - 1
    while counts[lower] < rank:
        rank -= counts[lower]
        lower -= 1
    left[0] = rank
    return np.uint32((upper << 16) | lower)
