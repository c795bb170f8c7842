/* The loops over a run, each from the sources' bytes to its result, block by block.
 *
 * Their arguments are addresses of the tables in layout.h and of arrays. They allocate nothing and know nothing of
 * Python. Loops that read sources return the largest bits, without sign, of all values read and of all differences: if
 * these bits are not those of a finite number, the result is invalid.
 *
 * This file is compiled once for each level of a processor's instructions, with LEVEL in the names of its functions.
 * The bits of a result are those of numpy: no sum is reordered, and no product fused into a sum (-ffp-contract=off).
 */
#include "combining.h"
#include "counting.h"
#include "layout.h"
#include "spread.h"
#include "vectors.h"

#define JOINED(name, level) mmgrid_##name##_##level
#define OF_LEVEL(name, level) JOINED(name, level)
#if defined(_WIN32)
#define LOOP(name) __declspec(dllexport) uint32_t OF_LEVEL(name, LEVEL)
#else
#define LOOP(name) __attribute__((visibility("default"))) uint32_t OF_LEVEL(name, LEVEL)
#endif

/* Computes each variant; with stages, adds the number of nonzero elements of each vector to `kept`, int64 [n_sources].
 */
LOOP(merged)(uint64_t run_table, uint64_t room_address, uint64_t variants, int64_t n_variants, uint64_t kept) {
    const struct run *run = AT(const struct run, run_table);
    struct variant *every = AT(struct variant, variants);
    int64_t *counts = AT(int64_t, kept);
    struct room room = open_room(room_address, run);
    uint32_t worst = 0;
    for (int64_t first = 0; first < run->size; first += run->block) {
        const int64_t n = least(run->block, run->size - first);
        worst = load_vectors(run, first, n, &room, worst);
        for (int64_t s = 0; run->has_stages && s < run->n_sources; s++) {
            const float *restrict values = vector_of(&room, run, s);
            uint32_t count = 0;
            for (int64_t i = 0; i < n; i++) count += values[i] != 0.0f;
            counts[s] += count;
        }
        for (int64_t piece = 0; piece < n; piece += BLOCK) { /* what is combined stays in the first-level cache */
            const int64_t size = least(BLOCK, n - piece);
            for (int64_t v = 0; v < n_variants; v++) {
                combine(run, &room, every + v, piece, size);
                every[v].largest = store(room.total, first + piece, size, every + v, (uint32_t)every[v].largest);
            }
        }
    }
    return worst;
}

/* Writes the bits of the magnitudes of each vector to uint32 [size] at the n_sources addresses in `targets`. */
LOOP(magnitudes)(uint64_t run_table, uint64_t room_address, uint64_t targets) {
    const struct run *run = AT(const struct run, run_table);
    const uint64_t *addresses = AT(const uint64_t, targets);
    struct room room = open_room(room_address, run);
    uint32_t worst = 0;
    for (int64_t first = 0; first < run->size; first += run->block) {
        const int64_t n = least(run->block, run->size - first);
        worst = load_vectors(run, first, n, &room, worst);
        for (int64_t s = 0; s < run->n_sources; s++) {
            const float *restrict values = vector_of(&room, run, s);
            uint32_t *restrict target = AT(uint32_t, addresses[s]) + first;
            for (int64_t i = 0; i < n; i++) target[i] = magnitude(values[i]);
        }
    }
    return worst;
}

/* Writes each vector to float [size] at the n_sources addresses in `targets`. */
LOOP(loaded)(uint64_t run_table, uint64_t room_address, uint64_t targets) {
    const struct run *run = AT(const struct run, run_table);
    const uint64_t *addresses = AT(const uint64_t, targets);
    struct room room = open_room(room_address, run);
    uint32_t worst = 0;
    for (int64_t first = 0; first < run->size; first += run->block) {
        const int64_t n = least(run->block, run->size - first);
        worst = load_vectors(run, first, n, &room, worst);
        for (int64_t s = 0; s < run->n_sources; s++) {
            memcpy(AT(float, addresses[s]) + first, vector_of(&room, run, s), (size_t)n * sizeof(float));
        }
    }
    return worst;
}

/* Counts for threshold searches, struct search [n_searches]. */
LOOP(counted)(uint64_t run_table, uint64_t room_address, uint64_t searches, int64_t n_searches) {
    const struct run *run = AT(const struct run, run_table);
    struct search *every = AT(struct search, searches);
    struct room room = open_room(room_address, run);
    struct choices choices;
    uint32_t worst = 0;
    list_choices(&choices);
    for (int64_t first = 0; first < run->size; first += run->block) {
        const int64_t n = least(run->block, run->size - first);
        worst = load_vectors(run, first, n, &room, worst);
        for (int64_t m = 0; m < n_searches; m++) count(every + m, &choices, vector_of(&room, run, every[m].source), n);
    }
    return worst;
}

/* Writes the inner products of all pairs of vectors in each block of `dot_block` elements to `target`, double [blocks,
 * n_sources, n_sources], in the order of `exact_sums.block_products`. `dot_block` and `lanes` are powers of two, `lanes`
 * at most BLOCK. `room_of_sums` is scratch, double [n_sources, n_sources, lanes].
 */
LOOP(products)(uint64_t run_table, uint64_t room_address, uint64_t target, uint64_t room_of_sums, int64_t dot_block,
               int64_t lanes) {
    const struct run *run = AT(const struct run, run_table);
    const int64_t n_sources = run->n_sources, n_pairs = n_sources * n_sources;
    double *products = AT(double, target), *sums = AT(double, room_of_sums);
    struct room room = open_room(room_address, run);
    uint32_t worst = 0;
    for (int64_t start = 0; start < run->size; start += dot_block, products += n_pairs) {
        const int64_t end = least(run->size, start + dot_block);
        memset(sums, 0, (size_t)(n_pairs * lanes) * sizeof *sums);
        for (int64_t first = start; first < end; first += run->block) {
            const int64_t n = least(run->block, end - first);
            worst = load_vectors(run, first, n, &room, worst);
            for (int64_t i = 0; i < n_sources; i++) {
                for (int64_t j = i; j < n_sources; j++) {
                    add_products(vector_of(&room, run, i), vector_of(&room, run, j), n,
                                 sums + (i * n_sources + j) * lanes, lanes);
                }
            }
        }
        for (int64_t i = 0; i < n_sources; i++) {
            for (int64_t j = i; j < n_sources; j++) {
                const double sum = added_lanes(sums + (i * n_sources + j) * lanes, lanes);
                products[i * n_sources + j] = products[j * n_sources + i] = sum;
            }
        }
    }
    return worst;
}

/* Writes the distinct values of uint32 [n], shifted right, to `values`, and how often each occurs to `counts`, both
 * uint32 [SLOTS]. Returns the number of distinct values; if it is more than half of SLOTS, there were too many and the
 * output is invalid. No shifted number may be NO_VALUE. */
LOOP(distinct)(uint64_t address, int64_t n, int64_t shift, uint64_t values, uint64_t counts) {
    const uint32_t *restrict numbers = AT(const uint32_t, address);
    uint32_t *restrict keys = AT(uint32_t, values), *restrict tallies = AT(uint32_t, counts);
    for (uint32_t slot = 0; slot < SLOTS; slot++) keys[slot] = NO_VALUE, tallies[slot] = 0;
    uint32_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t number = numbers[i] >> shift;
        uint32_t slot = (number * UINT32_C(2654435769)) >> (32 - SLOT_BITS);
        while (keys[slot] != number && keys[slot] != NO_VALUE) slot = (slot + 1) & (SLOTS - 1);
        if (keys[slot] == NO_VALUE) {
            keys[slot] = number;
            if (++found > SLOTS / 2) return found;
        }
        tallies[slot]++;
    }
    uint32_t end = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        if (keys[slot] == NO_VALUE) continue;
        keys[end] = keys[slot];
        tallies[end++] = tallies[slot];
    }
    return found;
}

/* The rank-th largest of uint32 [n] below 2^31; `equals`, int64 [1], gets how many of the `rank` largest equal it.
 * `room` is scratch, int64 [1 << 16]. Counts the upper halves of the bits first, then the lower halves of the numbers
 * with the upper half that was found. */
LOOP(ranked)(uint64_t address, int64_t n, int64_t rank, uint64_t room, uint64_t equals) {
    const uint32_t *restrict bits = AT(const uint32_t, address);
    int64_t *restrict counts = AT(int64_t, room);
    for (int64_t i = 0; i < 1 << 15; i++) counts[i] = 0;
    for (int64_t i = 0; i < n; i++) counts[bits[i] >> 16]++;
    uint32_t upper = (1 << 15) - 1, lower = (1 << 16) - 1;
    for (; counts[upper] < rank; upper--) rank -= counts[upper];
    for (int64_t i = 0; i < 1 << 16; i++) counts[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (bits[i] >> 16 == upper) counts[bits[i] & 0xFFFF]++;
    }
    for (; counts[lower] < rank; lower--) rank -= counts[lower];
    *AT(int64_t, equals) = rank;
    return upper << 16 | lower;
}

/* Writes the variance over the sources, float [size] at `n_sources` addresses, to double [size]. */
LOOP(variance)(uint64_t addresses, int64_t n_sources, int64_t size, uint64_t target) {
    if (n_sources == 2) { /* often: the compiler knows the number */
        write_variance(AT(const uint64_t, addresses), 2, size, AT(double, target));
    } else {
        write_variance(AT(const uint64_t, addresses), n_sources, size, AT(double, target));
    }
    return 0;
}

/* Counts double [size] of at least 0: `counts`, int64 [3], gets the number of those that are not zero, of those above
 * the second of `bounds`, and of those between them, which are written to `target`, double [size + 16]. */
LOOP(between)(uint64_t address, int64_t size, uint64_t bounds, uint64_t target, uint64_t counts) {
    const double *restrict values = AT(const double, address), low = AT(const double, bounds)[0],
                           high = AT(const double, bounds)[1];
    int64_t *found = AT(int64_t, counts), nonzero = 0, above = 0;
    for (int64_t i = 0; i < size; i++) {
        nonzero += values[i] != 0.0;
        above += values[i] > high;
    }
    found[0] = nonzero, found[1] = above, found[2] = values_between(values, size, low, high, AT(double, target));
    return 0;
}

/* Writes the sum of the squares of each block of float [size] to double [blocks], as LOOP(products) adds. */
LOOP(squares)(uint64_t address, int64_t size, int64_t block, int64_t lanes, uint64_t target) {
    const float *values = AT(const float, address);
    double sums[MOST_LANES], *squares = AT(double, target);
    for (int64_t start = 0; start < size; start += block) {
        memset(sums, 0, sizeof sums);
        add_products(values + start, values + start, least(block, size - start), sums, lanes);
        *squares++ = added_lanes(sums, lanes);
    }
    return 0;
}

/* Writes the agreed sum of float [size] at `n_sources` addresses to float [size]; `shares`, double [n_sources + 1], end
 * with the least divisor. */
LOOP(agreed)(uint64_t addresses, int64_t n_sources, int64_t size, uint64_t shares, uint64_t target) {
    for (int64_t first = 0; first < size; first += PIECE) {
        agreed_piece(AT(const uint64_t, addresses), n_sources, first, least(PIECE, size - first),
                     AT(const double, shares), AT(float, target) + first);
    }
    return 0;
}
