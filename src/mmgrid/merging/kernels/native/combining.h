/* Combining a block of vectors: the weighted sum, the elected sum of `methods/consensus.py`, and rounding. */
#ifndef MMGRID_COMBINING_H
#define MMGRID_COMBINING_H

#include "bits.h"
#include "layout.h"
#include "vectors.h"

/* Writes the sum of the weighted vectors in the order of the sources, for `n` elements from `first` on in the block; each
 * product is rounded before it is added. */
static void weighted_sum(const struct run *run, const struct room *room, const float *weights, int64_t first, int64_t n,
                         float *restrict total) {
    for (int64_t s = 0; s < run->n_sources; s++) {
        const float *restrict values = vector_of(room, run, s) + first;
        const float weight = weights[s];
        if (s == 0) {
            for (int64_t i = 0; i < n; i++) total[i] = values[i] * weight;
        } else {
            for (int64_t i = 0; i < n; i++) total[i] += values[i] * weight;
        }
    }
}

#define MOST_LANES 64 /* sums side by side, as in exact_sums */

static inline void add_products_in(const float *restrict one, const float *restrict other, int64_t n,
                                   double *restrict sums, const int64_t lanes) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (int64_t lane = 0; lane < lanes; lane++) sums[lane] += (double)one[i + lane] * (double)other[i + lane];
    }
    for (int64_t lane = 0; i + lane < n; lane++) sums[lane] += (double)one[i + lane] * (double)other[i + lane];
}

/* Adds the products of `n` elements to `lanes` sums in turn; a product of two floats is exact in double. */
static void add_products(const float *one, const float *other, int64_t n, double *sums, int64_t lanes) {
    if (lanes == MOST_LANES) { /* always, but in tests: the compiler knows the number */
        add_products_in(one, other, n, sums, MOST_LANES);
    } else {
        add_products_in(one, other, n, sums, lanes);
    }
}

/* The sum of `lanes` sums: the upper half is added to the lower one until one is left. */
static double added_lanes(double *sums, int64_t lanes) {
    for (int64_t half = lanes / 2; half > 0; half /= 2) {
        for (int64_t lane = 0; lane < half; lane++) sums[lane] += sums[half + lane];
    }
    return sums[0];
}

/* Zero for negative values, on the bits: what numpy's path does. */
static inline float positive(float value) {
    const int32_t whole = (int32_t)bits_of(value);
    return float_of((uint32_t)(whole > 0 ? whole : 0));
}

/* Writes `consensus.elected` to `total`, for `n` elements from `first` on in the block. */
static void elected(const struct run *run, const struct room *room, const struct variant *variant, int64_t first,
                    int64_t n, float *restrict total) {
    const float *weights = AT(const float, variant->weights), *votes = weights + run->n_sources;
    float *restrict signs = room->signs, *restrict divisor = room->divisor;
    const int normalise = variant->normalise != 0;
    weighted_sum(run, room, votes, first, n, signs);
    for (int64_t i = 0; i < n; i++) {
        signs[i] = float_of((bits_of(signs[i]) & SIGN) | ONE);
        total[i] = 0.0f;
        divisor[i] = 0.0f;
    }
    for (int64_t s = 0; s < run->n_sources; s++) {
        const float *restrict values = vector_of(room, run, s) + first;
        const float weight = weights[s];
        const int is_turned = variant->by_weight && weight < 0.0f; /* the weighted vector votes: its sign is flipped */
        if (is_turned) {
            for (int64_t i = 0; i < n; i++) {
                const float agreeing = positive(values[i] * signs[i] * weight);
                total[i] += agreeing;
                if (normalise) divisor[i] += one_if(agreeing != 0.0f) * weight;
            }
        } else {
            for (int64_t i = 0; i < n; i++) {
                const float agreeing = positive(values[i] * signs[i]) * weight;
                total[i] += agreeing;
                if (normalise) divisor[i] += one_if(agreeing != 0.0f) * weight;
            }
        }
    }
    if (normalise) {
        for (int64_t i = 0; i < n; i++) total[i] /= divisor[i] + one_if(divisor[i] == 0.0f);
    }
    for (int64_t i = 0; i < n; i++) total[i] *= signs[i];
}

/* Computes `n` elements of a variant, at most BLOCK, from `first` on in the block, in `room->total`. */
static void combine(const struct run *run, const struct room *room, const struct variant *variant, int64_t first,
                    int64_t n) {
    const float *weights = AT(const float, variant->weights), *scalars = AT(const float, variant->scalars);
    float *restrict total = room->total;
    const float *restrict base = room->base + first;
    if (variant->kind == BASE) {
        for (int64_t i = 0; i < n; i++) total[i] = base[i];
        return;
    }
    if (variant->kind == SUM) {
        weighted_sum(run, room, weights, first, n, total);
        if (variant->is_divided) {
            const float divisor = scalars[0];
            for (int64_t i = 0; i < n; i++) total[i] /= divisor;
        }
    } else {
        elected(run, room, variant, first, n, total);
    }
    if (run->on_deltas) {
        if (variant->is_scaled) {
            const float scale = scalars[1];
            for (int64_t i = 0; i < n; i++) total[i] *= scale;
        }
        for (int64_t i = 0; i < n; i++) total[i] = base[i] + total[i];
    }
}

/* Stores elements from `first` on, rounded to bfloat16 (ties to even) or unchanged. Returns the larger of `largest` and
 * their bits without sign before rounding; the bits of NaN are larger than those of any other value. */
static uint32_t store(const float *restrict total, int64_t first, int64_t n, const struct variant *variant,
                      uint32_t largest) {
    if (variant->is_half) {
        uint16_t *restrict stored = AT(uint16_t, variant->target) + first;
        for (int64_t i = 0; i < n; i++) {
            const uint32_t bits = bits_of(total[i]);
            largest = larger(largest, bits & WITHOUT_SIGN);
            stored[i] = (uint16_t)((bits + (bits >> 16 & 1) + 0x7FFF) >> 16);
        }
    } else {
        float *restrict stored = AT(float, variant->target) + first;
        for (int64_t i = 0; i < n; i++) {
            largest = larger(largest, magnitude(total[i]));
            stored[i] = total[i];
        }
    }
    return largest;
}

#endif
