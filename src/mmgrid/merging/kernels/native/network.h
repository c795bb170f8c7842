/* Ranks within rows by a sorting network: one row a lane, so that no number crosses a register and no branch depends on
 * the numbers.
 *
 * A number holds a magnitude's bits, as far as they differ within its row, and below them the column: so no two are
 * equal, and of equal magnitudes the first ranks lower. Bits that find no room are left out, and elements that only they
 * tell apart are put in order afterwards.
 *
 * Source: Batcher, "Sorting networks and their applications", 1968: the bitonic sorter, in the form in which every
 * comparison puts the larger number behind. So what lies beyond the end may be taken for infinite, and left out.
 */
#ifndef MMGRID_NETWORK_H
#define MMGRID_NETWORK_H

#include "bits.h"
#include "layout.h"

#define MOST_COLUMNS 4096 /* of a row; longer ones leave too few bits to the magnitudes, and the caches */

#if defined(__AVX512F__)
#include <immintrin.h>
#define SIDE 16 /* rows at once */
typedef __m512i side;
static inline side load_side(const uint32_t *from) { return _mm512_loadu_si512(from); }
static inline void store_side(uint32_t *to, side own) { _mm512_storeu_si512(to, own); }
static inline side lower_of(side one, side other) { return _mm512_min_epu32(one, other); }
static inline side higher_of(side one, side other) { return _mm512_max_epu32(one, other); }
#elif defined(__AVX2__)
#include <immintrin.h>
#define SIDE 8
typedef __m256i side;
static inline side load_side(const uint32_t *from) { return _mm256_loadu_si256((const side *)from); }
static inline void store_side(uint32_t *to, side own) { _mm256_storeu_si256((side *)to, own); }
static inline side lower_of(side one, side other) { return _mm256_min_epu32(one, other); }
static inline side higher_of(side one, side other) { return _mm256_max_epu32(one, other); }
#else
#define SIDE 8
typedef struct {
    uint32_t of[SIDE];
} side;
static inline side load_side(const uint32_t *from) {
    side own;
    memcpy(&own, from, sizeof own);
    return own;
}
static inline void store_side(uint32_t *to, side own) { memcpy(to, &own, sizeof own); }
static inline side lower_of(side one, side other) {
    for (int lane = 0; lane < SIDE; lane++) one.of[lane] = one.of[lane] < other.of[lane] ? one.of[lane] : other.of[lane];
    return one;
}
static inline side higher_of(side one, side other) {
    for (int lane = 0; lane < SIDE; lane++) one.of[lane] = one.of[lane] > other.of[lane] ? one.of[lane] : other.of[lane];
    return one;
}
#endif

#define FEW 8 /* places that are sorted in registers */
#define LOAD_FEW(from, step) \
    side a = load_side(from), b = load_side((from) + (step)), c = load_side((from) + 2 * (step)), \
         d = load_side((from) + 3 * (step)), e = load_side((from) + 4 * (step)), f = load_side((from) + 5 * (step)), \
         g = load_side((from) + 6 * (step)), h = load_side((from) + 7 * (step))
#define STORE_FEW(to, step) \
    store_side(to, a), store_side((to) + (step), b), store_side((to) + 2 * (step), c), \
        store_side((to) + 3 * (step), d), store_side((to) + 4 * (step), e), store_side((to) + 5 * (step), f), \
        store_side((to) + 6 * (step), g), store_side((to) + 7 * (step), h)

static inline void in_order(side *one, side *other) {
    const side lower = lower_of(*one, *other);
    *other = higher_of(*one, *other);
    *one = lower;
}

/* Three steps of a merge, over distances of four, two and one times `step` numbers. */
static inline void merge_few(uint32_t *numbers, int64_t step) {
    LOAD_FEW(numbers, step);
    in_order(&a, &e); in_order(&b, &f); in_order(&c, &g); in_order(&d, &h);
    in_order(&a, &c); in_order(&b, &d); in_order(&e, &g); in_order(&f, &h);
    in_order(&a, &b); in_order(&c, &d); in_order(&e, &f); in_order(&g, &h);
    STORE_FEW(numbers, step);
}

/* Sorts the first eight places, by the least number of comparisons. */
static inline void sort_few(uint32_t *numbers) {
    LOAD_FEW(numbers, SIDE);
    in_order(&a, &c); in_order(&b, &d); in_order(&e, &g); in_order(&f, &h);
    in_order(&a, &e); in_order(&b, &f); in_order(&c, &g); in_order(&d, &h);
    in_order(&a, &b); in_order(&c, &d); in_order(&e, &f); in_order(&g, &h);
    in_order(&c, &e); in_order(&d, &f); in_order(&b, &e); in_order(&d, &g);
    in_order(&b, &c); in_order(&d, &e); in_order(&f, &g);
    STORE_FEW(numbers, SIDE);
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

/* Sorts `size` places, a power of two of at least FEW, whose numbers are bitonic: they rise and then fall, or fall and
 * then rise. Only the first `n`, a multiple of FEW, are there. */
static void merge_sides(uint32_t *numbers, int64_t size, int64_t n) {
    if (n <= 0) return;
    if (size == FEW) {
        merge_few(numbers, SIDE);
        return;
    }
    const int64_t half = size / 2, eighth = size / FEW;
    if (size >= FEW * FEW && n >= size) { /* three steps at once */
        for (int64_t i = 0; i < eighth; i++) merge_few(numbers + i * SIDE, eighth * SIDE);
        for (int64_t first = 0; first < size; first += eighth) merge_sides(numbers + first * SIDE, eighth, eighth);
        return;
    }
    in_order_at(numbers, half, least(half, n - half));
    merge_sides(numbers, half, least(half, n));
    merge_sides(numbers + half * SIDE, half, n - half);
}

/* Sorts the first `n` places, a multiple of FEW and at most `size`, a power of two. */
static void sort_sides(uint32_t *numbers, int64_t size, int64_t n) {
    if (n <= 0) return;
    if (size == FEW) {
        sort_few(numbers);
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

/* How a row becomes numbers. */
struct lane {
    int shift;  /* magnitudes are shifted right by it */
    int is_cut; /* whether they lose bits that differ */
};

static struct lane lane_of(const float *restrict row, int64_t n, int column_bits) {
    uint32_t differing = 0;
    const uint32_t any = bits_of(row[0]);
    for (int64_t i = 0; i < n; i++) differing |= bits_of(row[i]) ^ any;
    differing &= WITHOUT_SIGN;
    if (!differing) return (struct lane){0, 0};
    const int low = lowest_bit(differing), cut = highest_bit(differing) + 1 - low - (32 - column_bits);
    return (struct lane){cut > 0 ? low + cut : low, cut > 0};
}

/* Writes the numbers of `n` columns of up to SIDE rows, and what lies behind the last up to a multiple of FEW. */
static void write_numbers(const float *restrict values, int64_t n, int64_t n_rows, const struct lane *lanes,
                          int column_bits, uint32_t *restrict numbers) {
    enum { PIECE_OF_ROW = 64 };
    uint32_t piece[SIDE][PIECE_OF_ROW];
    memset(piece, 0, sizeof piece);
    for (int64_t first = 0; first < n; first += PIECE_OF_ROW) {
        const int64_t size = least(PIECE_OF_ROW, n - first);
        for (int64_t row = 0; row < n_rows; row++) {
            const float *restrict own = values + row * n + first;
            const int shift = lanes[row].shift;
            for (int64_t i = 0; i < size; i++) {
                piece[row][i] = magnitude(own[i]) >> shift << column_bits | (uint32_t)(first + i);
            }
        }
        uint32_t *restrict to = numbers + first * SIDE;
        for (int64_t i = 0; i < size; i++) {
            for (int64_t row = 0; row < SIDE; row++) to[i * SIDE + row] = piece[row][i];
        }
    }
    for (int64_t i = n * SIDE; i < (n + FEW - 1) / FEW * FEW * SIDE; i++) numbers[i] = UINT32_MAX;
}

/* Puts the sorted numbers of a row in the order of its whole magnitudes. Returns 0 if that takes too long. */
static int put_in_order(const float *restrict row, int64_t n, uint32_t columns, uint32_t *restrict numbers) {
    int64_t moves = 4 * n;
    for (int64_t i = 1; i < n; i++) {
        const uint32_t own = numbers[i * SIDE], bits = magnitude(row[own & columns]);
        int64_t place = i;
        for (; place && magnitude(row[numbers[(place - 1) * SIDE] & columns]) > bits; place--) {
            if (!moves--) return 0;
            numbers[place * SIDE] = numbers[(place - 1) * SIDE];
        }
        numbers[place * SIDE] = own;
    }
    return 1;
}

/* Writes the place of each sorted number to the column that it holds. */
static inline void write_places(const uint32_t *restrict numbers, int64_t n, const int64_t n_rows, uint32_t columns,
                                uint32_t *restrict ranks) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t *restrict own = numbers + i * SIDE;
        for (int64_t row = 0; row < n_rows; row++) ranks[row * n + (own[row] & columns)] = (uint32_t)i;
    }
}

/* Writes the rank of each element of up to SIDE rows of `n` columns, at most MOST_COLUMNS. `numbers` is scratch, SIDE
 * times `n`, rounded up to FEW. Returns which rows were not done, bit by bit. */
static uint32_t ranks_of_rows(const float *restrict values, int64_t n, int64_t n_rows, uint32_t *restrict numbers,
                              uint32_t *restrict ranks) {
    int column_bits = 0;
    while ((INT64_C(1) << column_bits) < n) column_bits++;
    const uint32_t columns = (UINT32_C(1) << column_bits) - 1;
    struct lane lanes[SIDE];
    for (int64_t row = 0; row < n_rows; row++) lanes[row] = lane_of(values + row * n, n, column_bits);
    write_numbers(values, n, n_rows, lanes, column_bits, numbers);
    sort_sides(numbers, INT64_C(1) << (column_bits < 3 ? 3 : column_bits), (n + FEW - 1) / FEW * FEW);
    uint32_t left = 0;
    for (int64_t row = 0; row < n_rows; row++) {
        if (lanes[row].is_cut && !put_in_order(values + row * n, n, columns, numbers + row)) left |= 1u << row;
    }
    if (n_rows == SIDE) { /* nearly always: the compiler knows the number */
        write_places(numbers, n, SIDE, columns, ranks);
    } else {
        write_places(numbers, n, n_rows, columns, ranks);
    }
    return left;
}

#endif
