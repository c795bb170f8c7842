/* Counting for thresholds: the magnitudes in an interval, distinct values, the element of a rank. */
#ifndef MMGRID_COUNTING_H
#define MMGRID_COUNTING_H

#include "bits.h"
#include "layout.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

/* For each choice of eight lanes, as bits, the chosen ones from the first on, a byte each. */
struct choices {
    uint64_t lanes[256];
};

static void list_choices(struct choices *choices) {
    for (int chosen = 0; chosen < 256; chosen++) {
        uint64_t lanes = 0;
        for (int lane = 0, shift = 0; lane < 8; lane++) {
            if (chosen >> lane & 1) lanes |= (uint64_t)lane << shift, shift += 8;
        }
        choices->lanes[chosen] = lanes;
    }
}

/* Appends the distances to `low` of those magnitudes that lie in [low, low + width] to `target` at `end`; returns the
 * new end. Up to 16 words after the last distance are overwritten. */
static int64_t squeezed(const float *restrict values, int64_t n, uint32_t low, uint32_t width,
                        const struct choices *restrict choices, uint32_t *restrict target, int64_t end) {
    (void)choices;
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
#elif defined(__AVX2__)
    const __m256i without_sign = _mm256_set1_epi32((int)WITHOUT_SIGN), lowest = _mm256_set1_epi32((int)low),
                  widest = _mm256_set1_epi32((int)width);
    for (; i + 8 <= n; i += 8) {
        const __m256i bits = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(values + i)), without_sign);
        const __m256i distances = _mm256_sub_epi32(bits, lowest);
        const __m256i is_inside = _mm256_cmpeq_epi32(_mm256_min_epu32(distances, widest), distances);
        const int inside = _mm256_movemask_ps(_mm256_castsi256_ps(is_inside));
        const __m256i lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)choices->lanes[inside]));
        _mm256_storeu_si256((__m256i *)(target + end), _mm256_permutevar8x32_epi32(distances, lanes));
        end += __builtin_popcount((unsigned)inside);
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
static void count(struct search *search, const struct choices *choices, const float *restrict values, int64_t n) {
    const uint32_t low = (uint32_t)search->low, high = (uint32_t)search->high;
    uint32_t beyond = 0;
    for (int64_t i = 0; i < n; i++) beyond += magnitude(values[i]) > high;
    search->beyond += beyond;
    search->n_inside = squeezed(values, n, low, high - low, choices, AT(uint32_t, search->inside), search->n_inside);
}

#endif
