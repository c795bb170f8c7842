/* Philox 4x64 with ten rounds: the same numbers as numpy's Philox in `methods/stages/random.py`.
 *
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, including the constants.
 *
 * With wide registers the upper half of a 64-bit product is put together from 32-bit products, which they can do, and
 * several counters are drawn at once.
 */
#ifndef MMGRID_PHILOX_H
#define MMGRID_PHILOX_H

#include <stdint.h>

#define FIRST UINT64_C(0xD2E7470EE14C6C93)
#define SECOND UINT64_C(0xCA5A826395121157)
#define FIRST_STEP UINT64_C(0x9E3779B97F4A7C15)
#define SECOND_STEP UINT64_C(0xBB67AE8584CAA73B)

#if defined(__SIZEOF_INT128__) && !defined(__AVX2__)
__extension__ typedef unsigned __int128 wide_t;

static inline uint64_t high(uint64_t one, uint64_t other) { return (uint64_t)(((wide_t)one * other) >> 64); }
#else
static inline uint64_t high(uint64_t one, uint64_t other) {
    uint64_t one_low = one & UINT32_MAX, one_high = one >> 32, other_low = other & UINT32_MAX, other_high = other >> 32;
    uint64_t across = one_high * other_low;
    uint64_t middle = ((one_low * other_low) >> 32) + (across & UINT32_MAX) + one_low * other_high;
    return one_high * other_high + (across >> 32) + (middle >> 32);
}
#endif

#define ROUND                                                                                    \
    do {                                                                                         \
        uint64_t from_c = high(SECOND, c) ^ b ^ key, from_a = high(FIRST, a) ^ d ^ other_key;    \
        b = SECOND * c, d = FIRST * a, a = from_c, c = from_a;                                   \
        key += FIRST_STEP, other_key += SECOND_STEP;                                             \
    } while (0)

/* Writes the 4 n numbers of `n` counters, at most COUNTERS, from `block` on to `words`. `planes`, [4, COUNTERS], is
 * scratch. numpy increments the counter before it draws, so its block 0 has counter 1. */
static void draw(const uint64_t *numbers, uint64_t block, int64_t n, uint64_t *restrict planes,
                 uint64_t *restrict words) {
    uint64_t *restrict one = planes, *restrict two = planes + COUNTERS, *restrict three = planes + 2 * COUNTERS,
                       *restrict four = planes + 3 * COUNTERS;
    const uint64_t first_key = numbers[0], second_key = numbers[1];
    for (int64_t i = 0; i < n; i++) {
        uint64_t a = block + (uint64_t)i + 1, b = 0, c = 0, d = 0, key = first_key, other_key = second_key;
        ROUND;
        ROUND;
        ROUND;
        ROUND;
        ROUND;
        ROUND;
        ROUND;
        ROUND;
        ROUND;
        ROUND;
        one[i] = a, two[i] = b, three[i] = c, four[i] = d;
    }
    for (int64_t i = 0; i < n; i++) {
        words[4 * i] = one[i], words[4 * i + 1] = two[i], words[4 * i + 2] = three[i], words[4 * i + 3] = four[i];
    }
}

#endif
