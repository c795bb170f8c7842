/* Dropping by rank within rows, as in DELLA: `MagnitudeDrop` in `methods/stages/draws.py`.
 *
 * Ranks come from a sorting network, many rows at once; those of long or single rows from a radix sort over the bits in
 * which the magnitudes of a row differ.
 */
#ifndef MMGRID_ROWS_H
#define MMGRID_ROWS_H

#include "bits.h"
#include "layout.h"
#include "network.h"
#include "stages.h"

#define LEAST_DIGIT_BITS 5
#define MOST_DIGIT_BITS 11
#define MOST_PLACES (3 << MOST_DIGIT_BITS) /* three digits of 11 bits; more of fewer bits need less */

/* Scratch. */
struct rows {
    uint64_t *one, *other; /* of one row: magnitude and column, as one number */
    uint32_t *numbers;     /* of the sorting network */
    uint32_t *chances;     /* of a block: the number below which a random one keeps an element */
};

/* Replaces the counts of digits by the place of the first element with each digit. */
static void first_places(uint32_t *counts, uint32_t n_digits) {
    uint32_t place = 0;
    for (uint32_t digit = 0; digit < n_digits; digit++) {
        const uint32_t count = counts[digit];
        counts[digit] = place;
        place += count;
    }
}

/* Writes the chance by rank of each of the `n` elements of a row; of equal magnitudes, the first ranks lower. */
static void chances_of_row(const float *restrict values, int64_t n, const uint32_t *restrict by_rank,
                           struct rows *restrict rows, uint32_t *restrict target) {
    uint32_t differing = 0, places[MOST_PLACES];
    const uint32_t any = n ? bits_of(values[0]) : 0;
    for (int64_t i = 0; i < n; i++) differing |= bits_of(values[i]) ^ any;
    differing &= WITHOUT_SIGN;
    if (!differing) {
        for (int64_t i = 0; i < n; i++) target[i] = by_rank[i];
        return;
    }
    const int low = lowest_bit(differing), width = highest_bit(differing) - low + 1;
    int most = highest_bit((uint32_t)least(n, 1 << MOST_DIGIT_BITS)) + 1; /* more digits than elements do not pay */
    most = most < LEAST_DIGIT_BITS ? LEAST_DIGIT_BITS : most > MOST_DIGIT_BITS ? MOST_DIGIT_BITS : most;
    const int n_passes = (width + most - 1) / most, digit_bits = (width + n_passes - 1) / n_passes;
    const uint32_t n_digits = 1u << digit_bits, mask = n_digits - 1;
    memset(places, 0, sizeof(uint32_t) * n_digits * (uint32_t)n_passes);
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = magnitude(values[i]) >> low, *counts = places;
        for (int pass = 0; pass < n_passes; pass++, counts += n_digits, key >>= digit_bits) counts[key & mask]++;
    }
    for (int pass = 0; pass < n_passes; pass++) first_places(places + n_digits * (uint32_t)pass, n_digits);
    uint32_t *own = places;
    if (n_passes == 1) {
        for (int64_t i = 0; i < n; i++) target[i] = by_rank[own[magnitude(values[i]) >> low & mask]++];
        return;
    }
    uint64_t *from = rows->one, *to = rows->other;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t key = magnitude(values[i]) >> low;
        from[own[key & mask]++] = (uint64_t)key << 32 | (uint64_t)i;
    }
    int shift = 32 + digit_bits;
    own += n_digits;
    for (int pass = 1; pass < n_passes - 1; pass++, shift += digit_bits, own += n_digits) {
        for (int64_t i = 0; i < n; i++) to[own[from[i] >> shift & mask]++] = from[i];
        uint64_t *before = from;
        from = to;
        to = before;
    }
    for (int64_t i = 0; i < n; i++) target[(uint32_t)from[i]] = by_rank[own[from[i] >> shift & mask]++];
}

/* Writes the chances by rank of `n` elements, whole rows. */
static void write_chances(const float *restrict values, int64_t n, int64_t row, const uint32_t *restrict by_rank,
                          struct rows *restrict rows) {
    for (int64_t first = 0; first < n; first += SIDE * row) {
        uint32_t *target = rows->chances + first;
        const int64_t n_rows = least(SIDE, (n - first) / row);
        const int is_side = row <= MOST_COLUMNS && n_rows > SIDE / 4; /* few rows leave most lanes empty */
        uint32_t left = (UINT32_C(1) << n_rows) - 1;
        if (is_side) left = chances_of_rows(values + first, row, n_rows, by_rank, rows->numbers, target);
        for (int64_t i = 0; i < n_rows; i++) {
            if (left >> i & 1) chances_of_row(values + first + i * row, row, by_rank, rows, target + i * row);
        }
    }
}

/* Drops elements of whole rows by rank. `numbers` are the key of the random numbers, the length of a row, the address of
 * the chances by rank, and whether kept elements are divided by them; `place` is the index of the first element. */
static void drop_by_rank(float *restrict values, int64_t place, int64_t n, const uint64_t *numbers,
                         struct draws *restrict draws, struct rows *restrict rows) {
    write_chances(values, n, (int64_t)numbers[2], AT(const uint32_t, numbers[3]), rows);
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t size = least(BLOCK, n - first), skip = (place + first) % WORDS_PER_COUNTER;
        draw(numbers, (uint64_t)((place + first) / WORDS_PER_COUNTER),
             (skip + size + WORDS_PER_COUNTER - 1) / WORDS_PER_COUNTER, draws->words);
        const uint32_t *words = (const uint32_t *)draws->words + skip;
        float *restrict piece = values + first;
        const uint32_t *restrict chances = rows->chances + first;
        for (int64_t i = 0; i < size; i++) piece[i] *= one_if(words[i] < chances[i]);
        if (!numbers[4]) continue;
        for (int64_t i = 0; i < size; i++) piece[i] /= (float)chances[i] * 0x1p-32f;
    }
}

#endif
