/* A sorting network over sides: one list a lane, so that no number crosses a register and no branch depends on the
 * numbers.
 *
 * Source: Batcher, "Sorting networks and their applications", 1968: the bitonic sorter, in the form in which every
 * comparison puts the larger number behind. So what lies beyond the end may be taken for infinite, and left out.
 *
 * Up to three steps are taken at once, on places that are held in registers.
 */
#ifndef MMGRID_SORTING_H
#define MMGRID_SORTING_H

#include "bits.h"
#include "registers.h"

#define SIDE (REGISTER / 4) /* lists at once */
typedef uint32_t side __attribute__((vector_size(REGISTER)));

static inline side load_side(const uint32_t *from) {
    side own;
    memcpy(&own, from, sizeof own);
    return own;
}

static inline void store_side(uint32_t *to, side own) { memcpy(to, &own, sizeof own); }

#if defined(__AVX512F__)
#include <immintrin.h>
static inline side lower_of(side one, side other) { return (side)_mm512_min_epu32((__m512i)one, (__m512i)other); }
static inline side higher_of(side one, side other) { return (side)_mm512_max_epu32((__m512i)one, (__m512i)other); }
#elif defined(__AVX2__)
#include <immintrin.h>
static inline side lower_of(side one, side other) { return (side)_mm256_min_epu32((__m256i)one, (__m256i)other); }
static inline side higher_of(side one, side other) { return (side)_mm256_max_epu32((__m256i)one, (__m256i)other); }
#else
static inline side lower_of(side one, side other) {
    const side is_lower = (side)(one < other);
    return (one & is_lower) | (other & ~is_lower);
}
static inline side higher_of(side one, side other) { return one ^ other ^ lower_of(one, other); }
#endif

#define FEW 8        /* places that are sorted in registers */
#define MOST_HELD 16 /* places that are merged in registers */
#define NEAR 256     /* places that are sorted step by step, as the first-level cache holds them */
#define INLINE static inline __attribute__((always_inline))

INLINE void in_order(side *one, side *other) {
    const side lower = lower_of(*one, *other);
    *other = higher_of(*one, *other);
    *one = lower;
}

/* The steps of a merge of `n` sides over `distance`, half of it and so on. The numbers are constants where this is
 * called, so that the compiler keeps all sides in registers. */
INLINE void merge_held(side *held, const int n, const int first_distance) {
#pragma GCC unroll 4
    for (int distance = first_distance; distance; distance /= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            if (!(i & distance)) in_order(held + i, held + i + distance);
        }
    }
}

INLINE void load_held(side *held, const int n, const uint32_t *from, int64_t step) {
#pragma GCC unroll 16
    for (int i = 0; i < n; i++) held[i] = load_side(from + i * step * SIDE);
}

INLINE void store_held(uint32_t *to, int64_t step, const side *held, const int n) {
#pragma GCC unroll 16
    for (int i = 0; i < n; i++) store_side(to + i * step * SIDE, held[i]);
}

/* Merges `n` places, `step` apart. */
INLINE void merge_places(uint32_t *numbers, const int n, int64_t step) {
    side held[MOST_HELD];
    load_held(held, n, numbers, step);
    merge_held(held, n, n / 2);
    store_held(numbers, step, held, n);
}

/* Sorts eight sides, by the least number of comparisons. */
INLINE void sort_held(side *held) {
    static const int8_t pairs[19][2] = {{0, 2}, {1, 3}, {4, 6}, {5, 7}, {0, 4}, {1, 5}, {2, 6}, {3, 7}, {0, 1}, {2, 3},
                                        {4, 5}, {6, 7}, {2, 4}, {3, 5}, {1, 4}, {3, 6}, {1, 2}, {3, 4}, {5, 6}};
#pragma GCC unroll 19
    for (int i = 0; i < 19; i++) in_order(held + pairs[i][0], held + pairs[i][1]);
}

/* The first three steps of merging two sorted halves of `size` places: each is compared with its mirror image, and then
 * over half of a half and half of that. It leaves bitonic blocks of an eighth. */
INLINE void merge_mirrored(uint32_t *numbers, int64_t size) {
    const int64_t step = size / FEW;
    for (int64_t i = 0; i < step; i++) {
        side held[FEW];
        uint32_t *front = numbers + i * SIDE, *back = numbers + (size / 2 + step - 1 - i) * SIDE;
        load_held(held, FEW / 2, front, step);
        load_held(held + FEW / 2, FEW / 2, back, step);
#pragma GCC unroll 4
        for (int k = 0; k < FEW / 2; k++) in_order(held + k, held + FEW - 1 - k);
        merge_held(held, FEW, 2);
        store_held(front, step, held, FEW / 2);
        store_held(back, step, held + FEW / 2, FEW / 2);
    }
}

/* Sorts each block of `size` places, a power of two, in `n` places. The numbers of a block are bitonic: they rise and
 * then fall, or fall and then rise. */
static void merge_blocks(uint32_t *numbers, int64_t size, int64_t n) {
    const uint32_t *end = numbers + n * SIDE;
    if (size == 2) {
        for (; numbers < end; numbers += 2 * SIDE) merge_places(numbers, 2, 1);
    } else if (size == 4) {
        for (; numbers < end; numbers += 4 * SIDE) merge_places(numbers, 4, 1);
    } else if (size == 8) {
        for (; numbers < end; numbers += 8 * SIDE) merge_places(numbers, 8, 1);
    } else if (size == 16) {
        for (; numbers < end; numbers += 16 * SIDE) merge_places(numbers, 16, 1);
    } else {
        const int64_t step = size / FEW;
        for (; numbers < end; numbers += size * SIDE) {
            for (int64_t i = 0; i < step; i++) merge_places(numbers + i * SIDE, FEW, step);
            merge_blocks(numbers, step, size);
        }
    }
}

/* Compares each of `count` places from `one` on with that `distance` places behind it. */
static inline void in_order_at(uint32_t *one, int64_t distance, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        side lower = load_side(one + i * SIDE), higher = load_side(one + (i + distance) * SIDE);
        in_order(&lower, &higher);
        store_side(one + i * SIDE, lower);
        store_side(one + (i + distance) * SIDE, higher);
    }
}

/* As `merge_blocks` of one block, where only the first `n`, a multiple of FEW, are there. */
static void merge_sides(uint32_t *numbers, int64_t size, int64_t n) {
    if (n <= 0) return;
    if (n >= size) {
        merge_blocks(numbers, size, size);
        return;
    }
    const int64_t half = size / 2;
    in_order_at(numbers, half, least(half, n - half));
    merge_sides(numbers, half, least(half, n));
    merge_sides(numbers + half * SIDE, half, n - half);
}

/* Sorts `size` places, a power of two of at least FEW. */
static void sort_block(uint32_t *numbers, int64_t size) {
    if (size > NEAR) {
        const int64_t half = size / 2;
        sort_block(numbers, half);
        sort_block(numbers + half * SIDE, half);
        merge_mirrored(numbers, size);
        merge_blocks(numbers, size / FEW, size);
        return;
    }
    for (int64_t first = 0; first < size; first += FEW) {
        side held[FEW];
        load_held(held, FEW, numbers + first * SIDE, 1);
        sort_held(held);
        store_held(numbers + first * SIDE, 1, held, FEW);
    }
    for (int64_t own = 2 * FEW; own <= size; own *= 2) {
        for (int64_t first = 0; first < size; first += own) merge_mirrored(numbers + first * SIDE, own);
        merge_blocks(numbers, own / FEW, size);
    }
}

/* Sorts the first `n` places, a multiple of FEW and at most `size`, a power of two. */
static void sort_sides(uint32_t *numbers, int64_t size, int64_t n) {
    if (n <= 0) return;
    if (n >= size) {
        sort_block(numbers, size);
        return;
    }
    const int64_t half = size / 2;
    sort_sides(numbers, half, least(half, n));
    if (n <= half) return;
    sort_sides(numbers + half * SIDE, half, n - half);
    for (int64_t i = size - n; i < half; i++) { /* the second half backwards */
        uint32_t *one = numbers + i * SIDE, *other = numbers + (size - 1 - i) * SIDE;
        side lower = load_side(one), higher = load_side(other);
        in_order(&lower, &higher);
        store_side(one, lower);
        store_side(other, higher);
    }
    merge_sides(numbers, half, half);
    merge_sides(numbers + half * SIDE, half, n - half);
}

#endif
