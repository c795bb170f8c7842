/* The stages that look at single elements: dropping at random, and keeping the magnitudes within a window. */
#ifndef MMGRID_STAGES_H
#define MMGRID_STAGES_H

#include "bits.h"
#include "layout.h"
#include "philox.h"

/* Numbers per step of Philox's counter. */
#define HALVES_PER_COUNTER 16
#define WORDS_PER_COUNTER 8

/* Random numbers of one block. */
struct draws {
    uint64_t words[4 * COUNTERS], own[4 * 8];
};

/* Multiplies by zero where `random.happens` is true; `place` is the index of the first element, `n` at most BLOCK. */
static void drop_piece(float *restrict values, int64_t place, int64_t n, const uint64_t *numbers,
                       struct draws *restrict draws) {
    const uint64_t first = numbers[2], rest = numbers[5];
    if (first >= 1 << 16) {
        for (int64_t i = 0; i < n; i++) values[i] *= 0.0f;
        return;
    }
    const int64_t skip = place % HALVES_PER_COUNTER;
    draw(numbers, (uint64_t)(place / HALVES_PER_COUNTER), (skip + n + HALVES_PER_COUNTER - 1) / HALVES_PER_COUNTER,
         draws->words);
    const uint16_t *halves = (const uint16_t *)draws->words + skip, limit = (uint16_t)first;
    for (int64_t i = 0; i < n; i++) values[i] *= one_if(halves[i] >= limit);
    uint32_t n_open = 0;
    for (int64_t i = 0; i < n; i++) n_open += halves[i] == limit;
    if (!n_open) return;
    for (int64_t i = 0; i < n; i++) { /* those are kept so far; 32 more bits decide */
        if (halves[i] != limit) continue;
        const int64_t element = place + i;
        draw(numbers + 3, (uint64_t)(element / WORDS_PER_COUNTER), 1, draws->own);
        if (((const uint32_t *)draws->own)[element % WORDS_PER_COUNTER] < rest) values[i] *= 0.0f;
    }
}

static void drop(float *restrict values, int64_t place, int64_t n, const uint64_t *numbers,
                 struct draws *restrict draws) {
    for (int64_t first = 0; first < n; first += BLOCK) {
        drop_piece(values + first, place + first, least(BLOCK, n - first), numbers, draws);
    }
}

/* Writes whether each element is above a threshold. `left` elements that equal it still count as above; returns the
 * rest of them. */
static uint64_t above(const float *restrict values, int64_t n, uint32_t limit, uint64_t left,
                      uint8_t *restrict chosen) {
    if (left == 0) {
        for (int64_t i = 0; i < n; i++) chosen[i] = magnitude(values[i]) > limit;
        return left;
    }
    for (int64_t i = 0; i < n; i++) chosen[i] = magnitude(values[i]) >= limit;
    if (left >= ALL) return left;
    uint64_t equal = 0;
    for (int64_t i = 0; i < n; i++) equal += magnitude(values[i]) == limit;
    if (equal <= left) return left - equal;
    for (int64_t i = 0; i < n; i++) {
        if (magnitude(values[i]) != limit) continue;
        if (left) {
            left--;
        } else {
            chosen[i] = 0;
        }
    }
    return left;
}

/* Multiplies by zero outside a window. `numbers` begin with the bits of its lower and upper threshold; `left` holds
 * for each how many elements that equal it still count as above, and is updated. `chosen`, [2, n], is scratch. */
static void window(float *restrict values, int64_t n, const uint64_t *numbers, uint64_t *restrict left,
                   uint8_t *restrict chosen) {
    const int is_single = numbers[1] > WITHOUT_SIGN; /* nothing is above the upper threshold */
    if (is_single && (left[0] == 0 || left[0] >= ALL)) { /* nearly always: all equal elements are treated the same */
        const uint32_t limit = (uint32_t)(numbers[0] + (left[0] == 0));
        for (int64_t i = 0; i < n; i++) values[i] *= one_if(magnitude(values[i]) >= limit);
        return;
    }
    left[0] = above(values, n, (uint32_t)numbers[0], left[0], chosen);
    if (!is_single) {
        uint8_t *restrict other = chosen + n;
        left[1] = above(values, n, (uint32_t)numbers[1], left[1], other);
        for (int64_t i = 0; i < n; i++) chosen[i] ^= other[i];
    }
    for (int64_t i = 0; i < n; i++) values[i] *= one_if(chosen[i]);
}

#endif
