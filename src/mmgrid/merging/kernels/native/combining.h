/* Combining a block of vectors: the weighted sum, the elected sum of `methods/consensus.py`, and rounding. */
#ifndef MMGRID_COMBINING_H
#define MMGRID_COMBINING_H

#include "bits.h"
#include "layout.h"
#include "registers.h"
#include "vectors.h"

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
static inline floats positive(floats value) { return (floats)((whole)value & ((whole)value > 0)); }

/* 1.0f where a comparison holds, and 0.0f elsewhere. */
static inline floats one_where(whole holds) { return (floats)(holds & (int32_t)ONE); }

/* The sum of `n_sources` weighted vectors, `step` elements apart, in the order of the sources; each product is rounded
 * before it is added. */
static inline floats weighted_sum(const float *vectors, int64_t step, const float *weights, const int64_t n_sources) {
    floats total = floats_at(vectors) * weights[0];
    for (int64_t s = 1; s < n_sources; s++) total += floats_at(vectors + s * step) * weights[s];
    return total;
}

/* What is the same for all elements. */
struct rules {
    int on_deltas, is_divided, is_scaled, by_weight, normalise;
    float divisor, scale;
};

/* `consensus.elected`. */
static inline floats elected(const float *vectors, int64_t step, const struct rules *rules, const float *weights,
                             const int64_t n_sources) {
    const floats votes = weighted_sum(vectors, step, weights + n_sources, n_sources);
    const floats signs = (floats)(((whole)votes & (int32_t)SIGN) | (int32_t)ONE);
    floats total = {0}, divisor = {0};
    for (int64_t s = 0; s < n_sources; s++) {
        const floats turned = floats_at(vectors + s * step) * signs;
        const float weight = weights[s];
        const int is_turned = rules->by_weight && weight < 0.0f; /* the weighted vector votes: its sign is flipped */
        const floats agreeing = is_turned ? positive(turned * weight) : positive(turned) * weight;
        total += agreeing;
        if (rules->normalise) divisor += one_where(agreeing != 0.0f) * weight;
    }
    if (rules->normalise) total /= divisor + one_where(divisor == 0.0f);
    return total * signs;
}

_Static_assert(BLOCK % SOME == 0, "a block's total is whole registers");

/* As `combine`; where the compiler knows `kind` and `n_sources`, nothing is decided within the loop. */
static inline void combine_as(const struct run *run, const struct room *room, const struct variant *variant,
                              int64_t first, int64_t n, const int64_t kind, const int64_t n_sources) {
    const float *weights = AT(const float, variant->weights), *scalars = AT(const float, variant->scalars);
    const float *restrict vectors = room->vectors + first, *restrict base = room->base + first;
    float *restrict total = room->total;
    const int64_t step = run->block;
    const struct rules rules = {run->on_deltas != 0, variant->is_divided != 0, variant->is_scaled != 0,
                                variant->by_weight != 0, variant->normalise != 0, scalars[0], scalars[1]};
    for (int64_t i = 0; i < n; i += SOME) {
        floats own;
        if (kind == SUM) {
            own = weighted_sum(vectors + i, step, weights, n_sources);
            if (rules.is_divided) own /= rules.divisor;
        } else {
            own = elected(vectors + i, step, &rules, weights, n_sources);
        }
        if (rules.on_deltas) {
            if (rules.is_scaled) own *= rules.scale;
            own = floats_at(base + i) + own;
        }
        memcpy(total + i, &own, sizeof own);
    }
}

/* Computes `n` elements of a variant, at most BLOCK, from `first` on in the block, in `room->total`; and what is in the
 * room behind them, up to a whole register. */
static void combine(const struct run *run, const struct room *room, const struct variant *variant, int64_t first,
                    int64_t n) {
    const int64_t n_sources = run->n_sources;
    if (variant->kind == BASE) {
        memcpy(room->total, room->base + first, (size_t)n * sizeof(float));
    } else if (variant->kind == SUM && n_sources == 2) {
        combine_as(run, room, variant, first, n, SUM, 2);
    } else if (variant->kind == SUM) {
        combine_as(run, room, variant, first, n, SUM, n_sources);
    } else if (n_sources == 2) {
        combine_as(run, room, variant, first, n, ELECTED, 2);
    } else {
        combine_as(run, room, variant, first, n, ELECTED, n_sources);
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
