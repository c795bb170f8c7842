/* The vectors of a block that the method combines: widened, the base subtracted, the stages applied.
 *
 * A block is small enough that all its vectors stay in a core's first-level cache, and large enough that the overhead
 * of its loops is negligible.
 */
#ifndef MMGRID_VECTORS_H
#define MMGRID_VECTORS_H

#include "bits.h"
#include "layout.h"
#include "rows.h"
#include "stages.h"

/* Scratch memory of one block, in `layout.room_bytes`. */
struct room {
    float *vectors; /* [n_sources, block] */
    float *base;    /* [block] */
    float *total;    /* [BLOCK] */
    uint8_t *chosen; /* [2, block] */
    struct draws *draws;
    struct rows rows;
};

static struct room open_room(uint64_t address, const struct run *run) {
    struct room room;
    const uint64_t block = (uint64_t)run->block, row = (uint64_t)run->row;
    uint64_t at = address;
    room.rows.numbers = AT(uint32_t, at), at += 4 * SIDE * (row + FEW);
    room.rows.one = AT(uint64_t, at), at += 8 * row;
    room.rows.other = AT(uint64_t, at), at += 8 * row;
    room.rows.chances = AT(uint32_t, at), at += 4 * block;
    room.draws = AT(struct draws, at), at += sizeof(struct draws);
    room.total = AT(float, at), at += 4 * BLOCK;
    room.base = AT(float, at), at += 4 * block;
    /* Loops read whole registers, up to one beyond the last vector: what lies behind it is room, too. */
    room.vectors = AT(float, at), at += 4 * block * (uint64_t)run->n_sources;
    room.chosen = AT(uint8_t, at);
    return room;
}

static float *vector_of(const struct room *room, const struct run *run, int64_t source) {
    return room->vectors + source * run->block;
}

/* Widens `n` stored elements from `first` on to float; returns the larger of `worst` and their bits without sign. */
static uint32_t load(uint64_t address, int is_half, int64_t first, int64_t n, float *restrict values, uint32_t worst) {
    if (is_half) {
        const uint16_t *restrict stored = AT(const uint16_t, address) + first;
        for (int64_t i = 0; i < n; i++) {
            const uint32_t bits = (uint32_t)stored[i] << 16;
            values[i] = float_of(bits);
            worst = larger(worst, bits & WITHOUT_SIGN);
        }
    } else {
        const float *restrict stored = AT(const float, address) + first;
        for (int64_t i = 0; i < n; i++) {
            values[i] = stored[i];
            worst = larger(worst, magnitude(stored[i]));
        }
    }
    return worst;
}

/* As `load`, with `base` subtracted from the values; the bits of the differences count as well. */
static uint32_t load_difference(uint64_t address, int is_half, int64_t first, int64_t n, const float *restrict base,
                                float *restrict values, uint32_t worst) {
    if (is_half) {
        const uint16_t *restrict stored = AT(const uint16_t, address) + first;
        for (int64_t i = 0; i < n; i++) {
            const uint32_t bits = (uint32_t)stored[i] << 16;
            const float difference = float_of(bits) - base[i];
            values[i] = difference;
            worst = larger(worst, larger(bits & WITHOUT_SIGN, magnitude(difference)));
        }
    } else {
        const float *restrict stored = AT(const float, address) + first;
        for (int64_t i = 0; i < n; i++) {
            const float difference = stored[i] - base[i];
            values[i] = difference;
            worst = larger(worst, larger(magnitude(stored[i]), magnitude(difference)));
        }
    }
    return worst;
}

/* Computes the vectors of elements [first, first + n) of a run in `room`. Returns the largest bits, without sign, of
 * `worst`, the values read and the differences. */
static uint32_t load_vectors(const struct run *run, int64_t first, int64_t n, struct room *room, uint32_t worst) {
    const uint64_t *sources = AT(const uint64_t, run->sources), *numbers = AT(const uint64_t, run->numbers);
    const int64_t *halves = AT(const int64_t, run->halves), *bounds = AT(const int64_t, run->bounds);
    const int64_t *kinds = AT(const int64_t, run->kinds);
    const float *factors = AT(const float, run->factors);
    uint64_t *left = AT(uint64_t, run->left);
    const int64_t base = run->n_sources;
    if (run->on_deltas) worst = load(sources[base], halves[base] != 0, first, n, room->base, worst);
    for (int64_t s = 0; s < run->n_sources; s++) {
        float *restrict values = vector_of(room, run, s);
        if (!run->on_deltas) {
            worst = load(sources[s], halves[s] != 0, first, n, values, worst);
            continue;
        }
        worst = load_difference(sources[s], halves[s] != 0, first, n, room->base, values, worst);
        for (int64_t k = bounds[s]; k < bounds[s + 1]; k++) {
            const uint64_t *own = numbers + COLUMNS * k;
            const float factor = factors[k];
            switch (kinds[k]) {
            case MULTIPLY:
                for (int64_t i = 0; i < n; i++) values[i] *= factor;
                break;
            case DIVIDE:
                for (int64_t i = 0; i < n; i++) values[i] /= factor;
                break;
            case DROP:
                drop(values, run->place + first, n, own, room->draws);
                break;
            case WINDOW:
                window(values, n, own, left + 2 * k, room->chosen);
                break;
            default:
                drop_by_rank(values, run->place + first, n, own, room->draws, &room->rows);
            }
        }
    }
    return worst;
}

#endif
