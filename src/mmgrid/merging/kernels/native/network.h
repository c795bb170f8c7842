/* Ranks within rows by a sorting network, one row a lane.
 *
 * A number holds a magnitude's bits, as far as they differ within its row, and below them the column: so no two are
 * equal, and of equal magnitudes the first ranks lower. Bits that find no room are left out, and elements that only they
 * tell apart are put in order afterwards.
 */
#ifndef MMGRID_NETWORK_H
#define MMGRID_NETWORK_H

#include "bits.h"
#include "layout.h"
#include "sorting.h"

#define MOST_COLUMNS 4096 /* of a row; longer ones leave too few bits to the magnitudes, and the caches */

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

/* Whether the sorted numbers of a row are in the order of its whole magnitudes. */
static int is_in_order(const float *restrict row, int64_t n, uint32_t columns, const uint32_t *restrict numbers) {
    uint32_t before = 0, is_out = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = magnitude(row[numbers[i * SIDE] & columns]);
        is_out |= before > bits;
        before = bits;
    }
    return !is_out;
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

/* Writes what belongs to the place of each sorted number to the column that it holds. */
static inline void write_places(const uint32_t *restrict numbers, int64_t n, const int64_t n_rows, uint32_t columns,
                                const uint32_t *restrict by_place, uint32_t *restrict target) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t *restrict own = numbers + i * SIDE;
        const uint32_t chance = by_place[i];
        for (int64_t row = 0; row < n_rows; row++) target[row * n + (own[row] & columns)] = chance;
    }
}

/* Writes the chance by rank, a number, of each element of up to SIDE rows of `n` columns, at most MOST_COLUMNS. `numbers` is
 * scratch, SIDE times `n`, rounded up to FEW. Returns which rows were not done, bit by bit. */
static uint32_t chances_of_rows(const float *restrict values, int64_t n, int64_t n_rows,
                                const uint32_t *restrict by_rank, uint32_t *restrict numbers,
                                uint32_t *restrict target) {
    int column_bits = 0;
    while ((INT64_C(1) << column_bits) < n) column_bits++;
    const uint32_t columns = (UINT32_C(1) << column_bits) - 1;
    struct lane lanes[SIDE];
    for (int64_t row = 0; row < n_rows; row++) lanes[row] = lane_of(values + row * n, n, column_bits);
    write_numbers(values, n, n_rows, lanes, column_bits, numbers);
    sort_sides(numbers, INT64_C(1) << (column_bits < 3 ? 3 : column_bits), (n + FEW - 1) / FEW * FEW);
    uint32_t left = 0;
    for (int64_t row = 0; row < n_rows; row++) {
        const float *own = values + row * n;
        if (!lanes[row].is_cut || is_in_order(own, n, columns, numbers + row)) continue;
        if (!put_in_order(own, n, columns, numbers + row)) left |= 1u << row;
    }
    if (n_rows == SIDE) { /* nearly always: the compiler knows the number */
        write_places(numbers, n, SIDE, columns, by_rank, target);
    } else {
        write_places(numbers, n, n_rows, columns, by_rank, target);
    }
    return left;
}

#endif
