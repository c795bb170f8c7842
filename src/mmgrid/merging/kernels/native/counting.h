/* Counting for thresholds: the magnitudes in an interval, distinct values, the element of a rank. */
#ifndef MMGRID_COUNTING_H
#define MMGRID_COUNTING_H

#include "bits.h"
#include "layout.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* Appends the distances to `low` of those magnitudes that lie in [low, low + width] to `target` at `end`; returns the
 * new end. Up to 16 words after the last distance are overwritten. */
static int64_t squeezed(const float *restrict values, int64_t n, uint32_t low, uint32_t width,
                        uint32_t *restrict target, int64_t end) {
    int64_t i = 0;
#if defined(__AVX512F__)
    const __m512i without_sign = _mm512_set1_epi32((int)WITHOUT_SIGN), lowest = _mm512_set1_epi32((int)low),
                  widest = _mm512_set1_epi32((int)width);
    for (; i + 16 <= n; i += 16) {
        const __m512i bits = _mm512_and_si512(_mm512_loadu_si512(values + i), without_sign);
        const __m512i distances = _mm512_sub_epi32(bits, lowest); /* magnitudes below `low` wrap around */
        const __mmask16 inside = _mm512_cmple_epu32_mask(distances, widest);
        _mm512_storeu_si512(target + end, _mm512_maskz_compress_epi32(inside, distances));
        end += __builtin_popcount(inside);
    }
#endif
    for (; i < n; i++) {
        const uint32_t distance = magnitude(values[i]) - low;
        target[end] = distance;
        end += distance <= width;
    }
    return end;
}

/* Adds a block to a search. */
static void count(struct search *search, const float *restrict values, int64_t n) {
    const uint32_t low = (uint32_t)search->low, high = (uint32_t)search->high;
    uint32_t beyond = 0;
    for (int64_t i = 0; i < n; i++) beyond += magnitude(values[i]) > high;
    search->beyond += beyond;
    search->n_inside = squeezed(values, n, low, high - low, AT(uint32_t, search->inside), search->n_inside);
}

#endif
