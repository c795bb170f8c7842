/* Arithmetic in double over runs of several sources: `methods/spread.py`, in the same order. */
#ifndef MMGRID_SPREAD_H
#define MMGRID_SPREAD_H

#include "bits.h"
#include "combining.h"
#include "layout.h"
#include "registers.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define PIECE 512 /* elements whose sums stay in the first-level cache */

/* The variance over `n_sources` sources of `n` elements from `first` on, at most SOME_DOUBLES. */
static inline doubles variance_at(const uint64_t *addresses, const int64_t n_sources, int64_t first, const int64_t n) {
    const int is_exact = (n_sources & (n_sources - 1)) == 0; /* then multiplying by 1 / n_sources gives the same bits */
    const double number = (double)n_sources, share = 1.0 / number;
    const doubles origin = doubles_at(AT(const float, addresses[0]) + first, n);
    doubles mean = {0}, sum = {0};
    for (int64_t s = 1; s < n_sources; s++) mean += doubles_at(AT(const float, addresses[s]) + first, n) - origin;
    mean = is_exact ? mean * share : mean / number;
    for (int64_t s = 0; s < n_sources; s++) {
        const doubles away = doubles_at(AT(const float, addresses[s]) + first, n) - origin - mean;
        sum += away * away;
    }
    return is_exact ? sum * share : sum / number;
}

/* Writes the variance over the sources of `n` elements. */
static inline void write_variance(const uint64_t *addresses, const int64_t n_sources, int64_t n, double *restrict target) {
    int64_t i = 0;
    for (; i + SOME_DOUBLES <= n; i += SOME_DOUBLES) {
        const doubles own = variance_at(addresses, n_sources, i, SOME_DOUBLES);
        memcpy(target + i, &own, sizeof own);
    }
    if (i < n) {
        const doubles own = variance_at(addresses, n_sources, i, n - i);
        memcpy(target + i, &own, (size_t)(n - i) * sizeof(double));
    }
}

/* Appends the values in [low, high] to `target`; up to 8 doubles after the last one are overwritten. Returns their
 * number. */
static int64_t values_between(const double *restrict values, int64_t n, double low, double high,
                              double *restrict target) {
    int64_t i = 0, end = 0;
#if defined(__AVX512F__)
    const __m512d lowest = _mm512_set1_pd(low), highest = _mm512_set1_pd(high);
    for (; i + 8 <= n; i += 8) {
        const __m512d own = _mm512_loadu_pd(values + i);
        const __mmask8 inside = _mm512_cmp_pd_mask(own, lowest, _CMP_GE_OQ) & _mm512_cmp_pd_mask(own, highest, _CMP_LE_OQ);
        _mm512_storeu_pd(target + end, _mm512_maskz_compress_pd(inside, own));
        end += __builtin_popcount(inside);
    }
#endif
    for (; i < n; i++) {
        target[end] = values[i];
        end += (values[i] >= low) & (values[i] <= high);
    }
    return end;
}

/* Writes the agreed sum of `n` elements, at most PIECE, from `first` on; `shares` end with the least divisor. */
static void agreed_piece(const uint64_t *addresses, int64_t n_sources, int64_t first, int64_t n,
                         const double *restrict shares, float *restrict target) {
    const double floor = shares[n_sources];
    double sign[PIECE], divisor[PIECE], above[PIECE];
    for (int64_t i = 0; i < n; i++) sign[i] = 0.0, divisor[i] = 0.0, above[i] = 0.0;
    for (int64_t s = 0; s < n_sources; s++) {
        const float *restrict own = AT(const float, addresses[s]) + first;
        for (int64_t i = 0; i < n; i++) sign[i] += (double)own[i];
    }
    for (int64_t i = 0; i < n; i++) sign[i] = sign[i] >= 0.0 ? 1.0 : -1.0;
    for (int64_t s = 0; s < n_sources; s++) {
        const float *restrict own = AT(const float, addresses[s]) + first;
        const double share = shares[s];
        for (int64_t i = 0; i < n; i++) {
            const double factor = (double)own[i] * sign[i] > 0.0 ? share : 0.0;
            divisor[i] += factor;
            above[i] += (double)own[i] * factor;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const double by = divisor[i] > floor ? divisor[i] : floor;
        target[i] = (float)(by > 0.0 ? above[i] / (by > 0.0 ? by : 1.0) : 0.0);
    }
}

#endif
